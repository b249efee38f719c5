"""Both engines of `verify` find the same: DuckDB in this process, and a real Spark."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from penstock.config import read
from penstock.reconcile.engine import local_loader
from penstock.reconcile.fact_loading import LocalLoader
from penstock.reconcile.spark_tables import SparkTables
from tests.unit.reconcile.planted import Planted, compacted, plain, reconcile_planted


@pytest.mark.parametrize("make", [plain, compacted])
def test_both_engines_find_every_planted_difference_and_excuse(
    spark: SparkSession, tmp_path: Path, make: Callable[[Path], Planted]
) -> None:
    """Every statement of reconciliation.sql is needed: a unit test removes each of them in turn."""
    made = make(tmp_path)
    with local_loader(read(home=tmp_path), made[0]) as loader:
        expected = reconcile_planted(made, loader)
    assert reconcile_planted(made, LocalLoader(SparkTables(spark), made[0])) == expected
