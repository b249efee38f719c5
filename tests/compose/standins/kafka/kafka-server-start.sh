#!/bin/bash
# As Kafka's own script: a properties file, then --override name=value.
exec java ${KAFKA_HEAP_OPTS:--Xmx1G} ${KAFKA_OPTS:-} -XX:+ExitOnOutOfMemoryError \
    -Dlog4j2.configurationFile=file:///opt/kafka/config/log4j2.xml -cp '/opt/kafka/libs/*' kafka.Kafka "$@"
