#!/bin/bash
# What ZooKeeper's own script does with start-foreground: a heap of 1000 MB, unless JVMFLAGS, which come last, say otherwise.
set -e
exec java "-Dzookeeper.log.dir=$ZOO_LOG_DIR" -XX:+HeapDumpOnOutOfMemoryError -XX:OnOutOfMemoryError='kill -9 %p' \
    "-Xmx${ZK_SERVER_HEAP:-1000}m" ${JVMFLAGS:-} -Dzookeeper.jmx.log4j.disable=true \
    -Dlog4j2.configurationFile=file:///opt/zookeeper/log4j2.xml \
    -cp '/opt/zookeeper/lib/*' org.apache.zookeeper.server.quorum.QuorumPeerMain "$ZOOCFGDIR/zoo.cfg"
