#!/bin/bash
# As ZooKeeper's own script with start-foreground: a heap of 1000 MB, which JVMFLAGS may override because they come last.
set -e
exec java "-Dzookeeper.log.dir=$ZOO_LOG_DIR" -XX:+HeapDumpOnOutOfMemoryError -XX:OnOutOfMemoryError='kill -9 %p' \
    "-Xmx${ZK_SERVER_HEAP:-1000}m" ${JVMFLAGS:-} -Dzookeeper.jmx.log4j.disable=true \
    -Dlog4j2.configurationFile=file:///opt/zookeeper/log4j2.xml \
    -cp '/opt/zookeeper/lib/*' org.apache.zookeeper.server.quorum.QuorumPeerMain "$ZOOCFGDIR/zoo.cfg"
