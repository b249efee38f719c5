#!/usr/bin/env bash
# As the official entry point: reads POSTGRES_PASSWORD, _USER and _DB from variables or files, and initializes an empty
# data directory. Connections over TCP need a password, those over the local socket do not.
set -Eeo pipefail

from_file() {
    local name=$1 file="${1}_FILE" value=${2:-}
    if [ "${!name:-}" ] && [ "${!file:-}" ]; then
        echo "error: both $name and $file are set (but are exclusive)" >&2
        exit 1
    elif [ "${!name:-}" ]; then
        value=${!name}
    elif [ "${!file:-}" ]; then
        value=$(<"${!file}")
    fi
    export "$name"="$value"
    unset "$file"
}

if [ "$1" = postgres ]; then
    from_file POSTGRES_PASSWORD
    from_file POSTGRES_USER postgres
    from_file POSTGRES_DB "$POSTGRES_USER"
    mkdir -p "$PGDATA"
    chmod 00700 "$PGDATA" || :
    mkdir -p /var/run/postgresql || :
    chmod 03775 /var/run/postgresql || :
    if [ "$(id -u)" = 0 ]; then
        chown -R postgres "$PGDATA" /var/run/postgresql
        exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
    fi
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        [ -n "$POSTGRES_PASSWORD" ] || { echo "Error: Database is uninitialized and superuser password is not specified." >&2; exit 1; }
        initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD")
        printf '\nhost all all all %s\n' "$(postgres -C password_encryption)" >>"$PGDATA/pg_hba.conf"
        export PGPASSWORD=$POSTGRES_PASSWORD
        pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -p ${PGPORT:-5432}" -w start
        [ "$POSTGRES_DB" = postgres ] || createdb --username="$POSTGRES_USER" --no-password "$POSTGRES_DB"
        pg_ctl -D "$PGDATA" -m fast -w stop
        unset PGPASSWORD
    fi
fi
exec "$@"
