"""The measured usage of the machine."""

from pathlib import Path

from penstock.drill import service_usage


def test_disk_usage_counts_written_blocks_and_not_holes(tmp_path: Path) -> None:
    """Preallocated files count with their content; missing ones with nothing."""
    (tmp_path / "full").write_bytes(b"x" * 3 * 2**20)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(500 * 2**20)
    assert service_usage.measure_disk_mib([tmp_path]) == 3
    assert service_usage.measure_disk_mib([tmp_path / "full"]) == 3
    assert service_usage.measure_disk_mib([tmp_path / "nowhere"]) == 0
