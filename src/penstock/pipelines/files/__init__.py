"""Pipeline files as importable modules, `penstock.pipelines.files._HEX`, whose name contains the file's path.

Spark sends functions of a pipeline's file to its Python workers by the name of their module. A worker that has not
loaded the pipeline imports that name, and therefore this package first, which finds the file.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

_PREFIX = f"{__name__}._"


def module_name(path: Path) -> str:
    """Return the module name of a pipeline's file."""
    return _PREFIX + os.fsencode(path.absolute()).hex()


class _Finder:
    """Finds the file whose path a module name of this package contains."""

    @classmethod
    def find_spec(
        cls, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import the file; None for a name without a path."""
        if not name.startswith(_PREFIX):
            return None
        try:
            file = os.fsdecode(bytes.fromhex(name.removeprefix(_PREFIX)))
        except ValueError:
            return None
        return spec_from_file_location(name, file)


if not any(getattr(finder, "__module__", "") == __name__ for finder in sys.meta_path):
    sys.meta_path.append(_Finder)
