"""Functions of a pipeline's file, in a process that never loaded the pipeline."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from penstock import pipelines
from penstock.pipelines.files import module_name

FILE = """
from dataclasses import replace
from penstock.pipelines import users

class NotAName(Exception):
    pass

def check(name):
    raise NotAName(name)

PIPELINE = replace(users.PIPELINE, transform=check)
"""
FOREIGN = """
import pickle, sys, traceback
check = pickle.loads(bytes.fromhex(sys.argv[1]))
try:
    check("x")
except Exception as error:
    print(type(error).__name__, traceback.extract_tb(error.__traceback__)[-1].filename)
"""


@pytest.mark.parametrize("name", ["orders.py", "größe 1.py", "a.b.py"])
def test_another_process_finds_the_file_by_its_module_name(tmp_path: Path, name: str) -> None:
    """A Python worker of Spark gets functions by reference; a worker that raised before is replaced by a new
    process.
    """
    file = tmp_path / name
    file.write_text(FILE)
    check = pipelines.load(str(file)).transform
    sent = pickle.dumps(check).hex()
    done = subprocess.run([sys.executable, "-c", FOREIGN, sent], capture_output=True, text=True, check=False)
    assert done.stdout.split(" ", 1) == ["NotAName", f"{file}\n"], done.stderr
    del sys.modules[module_name(file)]
    pipelines.load.cache_clear()


@pytest.mark.parametrize("name", ["penstock.pipelines.files.other", "penstock.pipelines.files._zz"])
def test_a_name_without_a_path_is_not_a_module(name: str) -> None:
    """The error is Python's own."""
    with pytest.raises(ModuleNotFoundError, match=name):
        __import__(name)
