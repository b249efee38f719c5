#!/bin/bash
# What the official image and its cassandra-env.sh document: MAX_HEAP_SIZE, HEAP_NEWSIZE, JVM_EXTRA_OPTS.
set -euo pipefail
exec java "-Xms${MAX_HEAP_SIZE}" "-Xmx${MAX_HEAP_SIZE}" "-Xmn${HEAP_NEWSIZE}" \
    "-javaagent:$(ls /opt/cassandra/lib/jamm-*.jar)" -Djava.security.manager=allow @/opt/cassandra/conf/jvm.options \
    -Dlogback.configurationFile=/opt/cassandra/conf/logback.xml -Dcassandra.storagedir=/var/lib/cassandra \
    ${JVM_EXTRA_OPTS:-} -cp '/opt/cassandra/lib/*' org.apache.cassandra.service.CassandraDaemon
