"""Write rows with pre-encoded values in unlogged batches: the upper limit of writing.

Its argument is a JSON object: cassandra_host, cassandra_port, keyspace, table, records (0: until SIGTERM), client
("socket": frames built here; "cassandra-driver": values bound without its types), batch_rows, and concurrency, the
number of batches in flight. It runs in the project's environment.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle, islice
from struct import pack
from typing import Any

import native
from cassandra.cluster import Cluster
from cassandra.concurrent import execute_concurrent
from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement

from penstock.contract import cql
from penstock.contract.fields import BIGINT, INT, fields
from penstock.drill.load import generate_users
from penstock.pipelines.users import PIPELINE, User

DISTINCT_USERS = 1000
"""Number of distinct users. Their rows are written repeatedly, each time with a new id."""
REPORT_ROWS = 5_000
CALL_BATCHES = 200

Options = dict[str, Any]


def generate_ids() -> Iterator[bytes]:
    """Generate distinct version 4 UUIDs, endlessly."""
    start = os.urandom(6) + b"\x40\x00"
    return (start + pack(">Q", 1 << 63 | number) for number in count())


def encode_users() -> list[list[bytes]]:
    """Encode the values of `DISTINCT_USERS` rows, without the leading id. The last is the write timestamp in us."""
    key, *others = fields(User)
    assert key.key
    now_us, users = time.time_ns() // 1000, []
    for number, user in enumerate(islice(generate_users(User, PIPELINE), DISTINCT_USERS)):
        values = [column.kind.encode(getattr(user, column.name)) for column in others]
        values += BIGINT.encode(now_us // 1000), INT.encode(0), BIGINT.encode(number), BIGINT.encode(now_us + number)
        users.append(values)
    return users


def render_insert(options: Options) -> str:
    """Return the statement that stores one row."""
    return cql.insert(options["keyspace"], options["table"], User)


def generate_batch_sizes(options: Options, stop: threading.Event) -> Iterator[int]:
    """Yield the size of each batch until all records are assigned or SIGTERM arrives."""
    remaining = options["records"]
    while not stop.is_set() and (remaining > 0 or not options["records"]):
        size = min(remaining, options["batch_rows"]) if options["records"] else options["batch_rows"]
        remaining -= size
        yield size


def write_with_driver(options: Options, batches: Iterator[int]) -> Iterator[int]:
    """Write with cassandra-driver, and yield the number of rows acknowledged since the last step."""
    rows = ([new_id, *values] for new_id, values in zip(generate_ids(), cycle(encode_users())))
    with Cluster([options["cassandra_host"]], port=options["cassandra_port"]) as cluster, cluster.connect() as session:
        prepared = session.prepare(render_insert(options))
        while call := list(islice(batches, CALL_BATCHES)):
            statements = ((build_batch(prepared, islice(rows, size)), None) for size in call)
            execute_concurrent(session, statements, concurrency=options["concurrency"])
            yield sum(call)


def build_batch(prepared: PreparedStatement, rows: Iterator[list[bytes]]) -> BatchStatement:
    """Return a batch of encoded rows."""
    batch = BatchStatement(BatchType.UNLOGGED)
    for values in rows:
        statement = BoundStatement(prepared)
        statement.values = values
        batch.add(statement)
    return batch


def write_to_socket(options: Options, batches: Iterator[int]) -> Iterator[int]:
    """Write frames to a socket, and yield the number of rows acknowledged since the last step."""
    in_flight: dict[int, int] = {}
    with native.connect(options["cassandra_host"], options["cassandra_port"]) as connection:
        rows = encode_rows(connection.prepare(render_insert(options)))
        free = list(range(options["concurrency"]))
        while True:
            while free and (size := next(batches, 0)):
                in_flight[stream := free.pop()] = size
                connection.send_batch(stream, islice(rows, size), size)
            if not in_flight:
                return
            stream = connection.receive().stream
            free.append(stream)
            yield in_flight.pop(stream)


def encode_rows(statement: bytes) -> Iterator[bytes]:
    """Generate rows as encoded in a batch, endlessly."""
    users = encode_users()
    head = native.encode_head(statement, 1 + len(users[0])) + pack(">i", 16)
    return (head + new_id + tail for new_id, tail in zip(generate_ids(), cycle(list(map(native.encode_values, users)))))


CLIENTS: dict[str, Callable[[Options, Iterator[int]], Iterator[int]]] = {
    "cassandra-driver": write_with_driver,
    "socket": write_to_socket,
}


def main() -> None:
    """Write the rows and report how many are acknowledged."""
    options, stop, done, reported = json.loads(sys.argv[1]), threading.Event(), 0, 0
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for acknowledged in CLIENTS[options["client"]](options, generate_batch_sizes(options, stop)):
        done += acknowledged
        if done - reported >= REPORT_ROWS:
            reported = report_progress(done)
    report_progress(done)


def report_progress(done: int) -> int:
    """Print the number of acknowledged rows and return it."""
    sys.stdout.write(f"{json.dumps({'done': done})}\n")
    sys.stdout.flush()
    return done


if __name__ == "__main__":
    main()
