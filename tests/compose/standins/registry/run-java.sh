#!/bin/bash
# As the base image's script: a heap of 80 % of the container's memory, and JAVA_OPTS_APPEND last.
set -e
defaults="-XX:MaxRAMPercentage=80.0 -XX:+UseParallelGC -XX:MinHeapFreeRatio=10 -XX:MaxHeapFreeRatio=20
    -XX:GCTimeRatio=4 -XX:AdaptiveSizePolicyWeight=90 -XX:+ExitOnOutOfMemoryError"
exec java ${JAVA_OPTS-$defaults ${JAVA_OPTS_APPEND:-}} -jar /deployments/quarkus-run.jar
