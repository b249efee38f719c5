"""What is measured of the machine."""

from pathlib import Path

from penstock.drill import service_usage


def test_disk_counts_blocks_that_are_written_and_not_holes(tmp_path: Path) -> None:
    """Files that are made large in advance take what is in them; what is not there takes nothing."""
    (tmp_path / "full").write_bytes(b"x" * 3 * 2**20)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(500 * 2**20)
    assert service_usage.measure_disk_mib([tmp_path]) == 3
    assert service_usage.measure_disk_mib([tmp_path / "full"]) == 3
    assert service_usage.measure_disk_mib([tmp_path / "nowhere"]) == 0
