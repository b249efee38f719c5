#!/usr/bin/env bash
# As Kafka's own script: heap, logging and options from variables, then a properties file and --override NAME=VALUE.
set -euo pipefail
logging=/opt/kafka/config/log4j2.yaml
[ -e "$logging" ] || logging=/opt/kafka/config/log4j2.xml
exec java ${KAFKA_HEAP_OPTS:--Xmx1G -Xms1G} \
    ${KAFKA_JVM_PERFORMANCE_OPTS:--server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true} \
    -Dkafka.logs.dir=/opt/kafka/logs ${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=$logging} ${KAFKA_OPTS:-} \
    -cp '/opt/kafka/libs/*' kafka.Kafka "$@"
