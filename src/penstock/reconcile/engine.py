"""The database of one verification: DuckDB in this process, with a memory limit, spilling to the data directory."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from penstock.config import Settings
from penstock.files import hold_lock
from penstock.reconcile import queries
from penstock.reconcile.fact_loading import FactOrigin, LocalLoader, Tables, chunks
from penstock.reconcile.queries import Statement

_FETCH_ROWS = 1_000
_MIB_OF_TWO_THREADS = 256
_MIB = 2**20
_CGROUP_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_CGROUP_SHARE = 4
"""DuckDB gets at most a quarter of the cgroup's memory: its process needs about 200 MiB on top of that limit."""
_LEAST_MIB = 96
"""With less, DuckDB fails on a million records instead of spilling."""
_DTYPES = {"INT": "int32", "BIGINT": "int64", "BOOLEAN": "bool"}


class Engine(Tables):
    """Tables of one verification, and queries over them. Everything is removed when the block ends."""

    def __init__(self, settings: Settings) -> None:
        self._folder = SpillFolder(settings.home / "data" / "verify")
        self._limit_mib = limit_mib(settings.verify_memory_mib)

    def __enter__(self) -> Self:
        import duckdb  # 40 MiB, which only a verification needs

        config: dict[str, Any] = {
            "memory_limit": f"{self._limit_mib}MiB",
            "threads": 1 if self._limit_mib < _MIB_OF_TWO_THREADS else 2,
            "temp_directory": str(self._folder.open()),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "preserve_insertion_order": False,
        }
        self._connection = duckdb.connect(":memory:", config=config)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._folder.close()

    def run(self, section: str) -> None:
        """Create the tables and views of a section of `reconciliation.sql`."""
        for statement in queries.sections()[section]:
            self.create(statement)

    def create(self, statement: Statement) -> None:
        """Create a table or view."""
        self._connection.execute(statement.sql)

    def append(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows to an input, a chunk at a time."""
        for chunk in chunks(rows):
            self.append_columns(table, zip(*chunk, strict=True))

    def append_columns(self, table: str, columns: Iterable[Sequence[Any]]) -> None:
        """Append a chunk of rows to an input, given as its columns."""
        kinds = queries.inputs()[table].items()
        arrays = {name: _build_array(column, kind) for (name, kind), column in zip(kinds, columns, strict=True)}
        self._connection.register("chunk", arrays)
        self._connection.execute(f"INSERT INTO {table} SELECT * FROM chunk")
        self._connection.unregister("chunk")

    def rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query, fetched in batches."""
        with self._connection.cursor() as cursor:
            cursor.execute(query, values)
            while rows := cursor.fetchmany(_FETCH_ROWS):
                yield from rows


@contextmanager
def local_loader(settings: Settings, origin: FactOrigin) -> Iterator[LocalLoader]:
    """Open the engine of this process, with a loader of what `origin` provides."""
    with Engine(settings) as engine:
        yield LocalLoader(engine, origin)


def _build_array(values: Sequence[Any], kind: str) -> Any:
    """Return a column as a numpy array. Nulls are masked, except in strings."""
    import numpy as np

    if kind == "STRING":
        return np.array(values, dtype=object)
    if None not in values:
        return np.array(values, dtype=_DTYPES[kind])
    filled = np.array([0 if value is None else value for value in values], dtype=_DTYPES[kind])
    return np.ma.masked_array(filled, mask=[value is None for value in values])


def limit_mib(setting_mib: int, files: Sequence[Path] = _CGROUP_FILES) -> int:
    """Return DuckDB's memory limit: as set, but at most its share of the memory limit of this process's cgroup."""
    for file in files:
        try:
            share_mib = int(file.read_text()) // _MIB // _CGROUP_SHARE
        except (OSError, ValueError):  # no such file, or its content is `max`
            continue
        return max(_LEAST_MIB, min(setting_mib, share_mib))
    return setting_mib


class SpillFolder:
    """Temporary folder of one process. If the process is killed, the next one removes the folder."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._path: Path | None = None
        self._lock = ExitStack()

    def open(self) -> Path:
        """Create the folder, lock it, and return its path."""
        self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with hold_lock(self._parent):
            self._remove_abandoned()
            self._path = Path(tempfile.mkdtemp(dir=self._parent))
            self._lock.enter_context(hold_lock(self._path))
        return self._path

    def close(self) -> None:
        """Remove the folder."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._lock.close()

    def _remove_abandoned(self) -> None:
        for folder in self._parent.iterdir():
            with suppress(FileNotFoundError, BlockingIOError), hold_lock(folder, wait=False):
                shutil.rmtree(folder, ignore_errors=True)
