#!/bin/sh
# Puts the shared secret into Spark's configuration, where no process's arguments show it, and becomes the command.
set -eu
secret=/etc/penstock/secrets/spark_auth_secret
[ -r "$secret" ] || { echo "spark: $secret cannot be read: secrets-init writes it" >&2; exit 1; }
(
    umask 077
    mkdir -p "$SPARK_CONF_DIR"
    cp /opt/spark-conf/* "$SPARK_CONF_DIR"
    printf 'spark.authenticate.secret %s\n' "$(cat "$secret")" >>"$SPARK_CONF_DIR/spark-defaults.conf"
)
exec "$@"
