#!/bin/sh
# Writes the shared secret to Spark's configuration, so that it is not in process arguments, and execs the command.
set -eu
secret=/etc/penstock/secrets/spark_auth_secret
[ -r "$secret" ] || { echo "spark: cannot read $secret, which secrets-init writes: docker compose logs secrets-init" >&2; exit 1; }
(
    umask 077
    mkdir -p "$SPARK_CONF_DIR"
    cp /opt/spark-conf/* "$SPARK_CONF_DIR"
    printf 'spark.authenticate.secret %s\n' "$(cat "$secret")" >>"$SPARK_CONF_DIR/spark-defaults.conf"
)
exec "$@"
