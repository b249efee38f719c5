#!/bin/sh
# Puts the shared secret into Spark's configuration, where no process's arguments show it, and becomes the command.
set -eu
umask 077
mkdir -p "$SPARK_CONF_DIR"
cp /opt/spark-conf/* "$SPARK_CONF_DIR"
printf 'spark.authenticate.secret %s\n' "${_SPARK_AUTH_SECRET:?is not set: run ./penstock compose init}" >>"$SPARK_CONF_DIR/spark-defaults.conf"
exec "$@"
