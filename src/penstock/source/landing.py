"""Stage API responses on disk, per run, from before they are sent until a day later.

The next attempt of a failed or killed task reads them and sends exactly the same records, even if the API never
returns the same response twice.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from penstock import __version__, formats
from penstock.contract.json_numbers import ReadNumber, encode_json
from penstock.files import write_atomically
from penstock.source.entries import Unreadable


class _Page(msgspec.Struct):
    """File format of a response: null in place of each entry that is not JSON. In format 1 a response is a list."""

    entries: list[Any]
    unreadable: dict[int, Unreadable]
    format: int = formats.STAGING.version
    penstock: str = ""


class Staging:
    """Staged responses of one run, in a subfolder of `folder`. `read_number` is that of the source."""

    def __init__(self, folder: Path, run_id: str, read_number: ReadNumber | None = None) -> None:
        self.folder = folder / hashlib.sha256(run_id.encode()).hexdigest()[:24]
        self._decode = msgspec.json.Decoder(list[Any] | _Page, float_hook=read_number).decode
        self._last_read: tuple[int, list[Any]] = (-1, [])

    def read_responses(self) -> Iterator[tuple[list[Any], int]]:
        """Yield the staged responses in order, each with its time in ms since the epoch. Raises `FormatTooNew`."""
        for file in self._list_files():
            staged_ms = file.stat().st_mtime_ns // 1_000_000
            yield self._read_response(file), staged_ms

    def read_entry(self, answer: int, index: int) -> Any:
        """Return an entry as it was staged, even if it was changed in memory. Both indexes count from 0."""
        if self._last_read[0] != answer:
            self._last_read = answer, self._read_response(self.folder / _format_name(answer))
        return self._last_read[1][index]

    def write_response(self, response: list[Any]) -> None:
        """Write a response to disk, atomically and synced. Only its owner can read it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.folder / _format_name(len(self._list_files())), _encode_response(response))

    def forget_others(self, older_than_s: float) -> None:
        """Delete the responses of other runs that are older than `older_than_s` seconds."""
        cutoff_s = time.time() - older_than_s
        for folder in self.folder.parent.glob("*/"):
            if folder != self.folder and folder.stat().st_mtime < cutoff_s:
                shutil.rmtree(folder, ignore_errors=True)

    def _read_response(self, file: Path) -> list[Any]:
        data = file.read_bytes()
        try:
            page = self._decode(data)
        except msgspec.ValidationError:
            formats.check_marked(formats.STAGING, data, str(file))
            raise
        if isinstance(page, list):
            return page
        formats.check_version(formats.STAGING, page.format, str(file), page.penstock)
        return [page.unreadable.get(index, entry) for index, entry in enumerate(page.entries)]

    def _list_files(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))


def _format_name(answer: int) -> str:
    return f"{answer:06}.json"


def _encode_response(response: list[Any]) -> bytes:
    unreadable = {index: entry for index, entry in enumerate(response) if isinstance(entry, Unreadable)}
    entries = (
        [None if index in unreadable else entry for index, entry in enumerate(response)] if unreadable else response
    )
    return encode_json(_Page(entries, unreadable, penstock=__version__))
