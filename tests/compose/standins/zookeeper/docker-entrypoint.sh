#!/bin/bash
# What the official image documents: ZOO_ variables make zoo.cfg.
set -euo pipefail
{
    echo dataDir=/data
    echo dataLogDir=/datalog
    echo clientPort=2181
    echo "tickTime=${ZOO_TICK_TIME:-2000}"
    echo "maxClientCnxns=${ZOO_MAX_CLIENT_CNXNS:-60}"
    echo "autopurge.purgeInterval=${ZOO_AUTOPURGE_PURGEINTERVAL:-0}"
    echo "admin.enableServer=${ZOO_ADMINSERVER_ENABLED:-true}"
    echo "4lw.commands.whitelist=${ZOO_4LW_COMMANDS_WHITELIST:-srvr}"
} >/conf/zoo.cfg
exec java ${JVMFLAGS:-} -Dzookeeper.jmx.log4j.disable=true \
    -Dlog4j2.configurationFile=file:///opt/zookeeper/log4j2.xml \
    -cp '/opt/zookeeper/lib/*' org.apache.zookeeper.server.quorum.QuorumPeerMain /conf/zoo.cfg
