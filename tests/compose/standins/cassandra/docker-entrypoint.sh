#!/bin/bash
# What the official entry point does: no arguments or options are Cassandra's, root becomes cassandra, and CASSANDRA_
# variables go into the configuration. Any other command is run as it is.
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
