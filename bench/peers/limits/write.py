"""The fastest writer: rows with pre-encoded values, in unlogged batches.

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
from penstock.drill.load import made_up
from penstock.pipelines.users import PIPELINE, User

KINDS = 1000
"""Number of distinct users. Their rows are written repeatedly, each with a new id."""
REPORT_ROWS = 5_000
CALL_BATCHES = 200

Asked = dict[str, Any]


def ids() -> Iterator[bytes]:
    """Return endless version 4 UUIDs, all distinct within one process."""
    start = os.urandom(6) + b"\x40\x00"
    return (start + pack(">Q", 1 << 63 | number) for number in count())


def kinds() -> list[list[bytes]]:
    """Return the values of some rows as CQL bytes, without the leading id. The last is the write timestamp in us."""
    key, *others = fields(User)
    assert key.key
    now_us, found = time.time_ns() // 1000, []
    for number, user in enumerate(islice(made_up(User, PIPELINE), KINDS)):
        values = [one.kind.encode(getattr(user, one.name)) for one in others]
        values += BIGINT.encode(now_us // 1000), INT.encode(0), BIGINT.encode(number), BIGINT.encode(now_us + number)
        found.append(values)
    return found


def insert(asked: Asked) -> str:
    """Return the statement that stores one row."""
    return cql.render_insert(asked["keyspace"], asked["table"], User)


def sizes(asked: Asked, stop: threading.Event) -> Iterator[int]:
    """Yield the size of each batch until all records are assigned or the signal has arrived."""
    left = asked["records"]
    while not stop.is_set() and (left > 0 or not asked["records"]):
        size = min(left, asked["batch_rows"]) if asked["records"] else asked["batch_rows"]
        left -= size
        yield size


def through_driver(asked: Asked, batches: Iterator[int]) -> Iterator[int]:
    """Write with cassandra-driver, and yield how many more rows are acknowledged."""
    rows = ([new_id, *values] for new_id, values in zip(ids(), cycle(kinds())))
    with Cluster([asked["cassandra_host"]], port=asked["cassandra_port"]) as cluster, cluster.connect() as session:
        prepared = session.prepare(insert(asked))
        while call := list(islice(batches, CALL_BATCHES)):
            statements = ((bind(prepared, islice(rows, size)), None) for size in call)
            execute_concurrent(session, statements, concurrency=asked["concurrency"])
            yield sum(call)


def bind(prepared: PreparedStatement, rows: Iterator[list[bytes]]) -> BatchStatement:
    """Return a batch of encoded rows."""
    batch = BatchStatement(BatchType.UNLOGGED)
    for values in rows:
        statement = BoundStatement(prepared)
        statement.values = values
        batch.add(statement)
    return batch


def through_socket(asked: Asked, batches: Iterator[int]) -> Iterator[int]:
    """Write frames to a socket, and yield how many more rows are acknowledged."""
    waiting: dict[int, int] = {}
    with native.connect(asked["cassandra_host"], asked["cassandra_port"]) as connection:
        rows = row_frames(connection.prepare(insert(asked)))
        free = list(range(asked["concurrency"]))
        while True:
            while free and (size := next(batches, 0)):
                waiting[stream := free.pop()] = size
                connection.send_batch(stream, islice(rows, size), size)
            if not waiting:
                return
            stream = connection.receive().stream
            free.append(stream)
            yield waiting.pop(stream)


def row_frames(statement: bytes) -> Iterator[bytes]:
    """Return endless rows as encoded in a batch."""
    made = kinds()
    head = native.head_of(statement, 1 + len(made[0])) + pack(">i", 16)
    return (head + new_id + tail for new_id, tail in zip(ids(), cycle(list(map(native.values_of, made)))))


CLIENTS: dict[str, Callable[[Asked, Iterator[int]], Iterator[int]]] = {
    "cassandra-driver": through_driver,
    "socket": through_socket,
}


def main() -> None:
    """Write the rows and report how many are acknowledged."""
    asked, stop, done, told = json.loads(sys.argv[1]), threading.Event(), 0, 0
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for more in CLIENTS[asked["client"]](asked, sizes(asked, stop)):
        done += more
        if done - told >= REPORT_ROWS:
            told = tell(done)
    tell(done)


def tell(done: int) -> int:
    """Print the number of acknowledged rows and return it."""
    sys.stdout.write(f"{json.dumps({'done': done})}\n")
    sys.stdout.flush()
    return done


if __name__ == "__main__":
    main()
