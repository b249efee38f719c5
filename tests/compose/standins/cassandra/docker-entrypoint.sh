#!/bin/bash
# As the official entry point: runs Cassandra if there is no command, switches from root to cassandra, and writes CASSANDRA_
# variables to the configuration. Other commands are run unchanged.
set -e
if [ "$#" -eq 0 ] || [ "${1#-}" != "$1" ]; then
    set -- cassandra -f "$@"
fi
if [ "$1" = cassandra ] && [ "$(id -u)" = 0 ]; then
    chown -R cassandra /var/lib/cassandra /var/log/cassandra "$CASSANDRA_CONF"
    exec setpriv --reuid cassandra --regid cassandra --init-groups "$0" "$@"
fi
if [ "$1" = cassandra ]; then
    address=$(ip -4 -oneline address show scope global | awk '{ sub("/.*", "", $4); print $4; exit }')
    {
        echo "listen_address: ${CASSANDRA_LISTEN_ADDRESS:-$address}"
        echo "rpc_address: ${CASSANDRA_RPC_ADDRESS:-0.0.0.0}"
        echo "broadcast_rpc_address: ${CASSANDRA_BROADCAST_RPC_ADDRESS:-$address}"
    } >>"$CASSANDRA_CONF/cassandra.yaml"
fi
exec "$@"
