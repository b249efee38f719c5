from penstock.web.health import space


def test_each_folder_of_the_data_directory_is_measured_and_its_data_in_detail(tmp_path):
    """The largest first; links to the outside are not followed."""
    for name, size in (("data/kafka", 300_000), ("data/cassandra", 500_000), ("logs", 100_000)):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(b"x" * size)
    (tmp_path / "elsewhere").symlink_to("/usr")
    usage = space.measure_space(tmp_path)
    assert [folder.name for folder in usage.folders] == ["data/cassandra", "data/kafka", "logs"]
    assert usage.folders[0].size_bytes >= 500_000
    assert all(folder.is_whole for folder in usage.folders)
    assert 0 < usage.free_bytes < usage.disk_bytes


def test_measuring_ends_at_its_timeout(tmp_path):
    """And says that there is more."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "file").write_bytes(b"x")
    assert [folder.is_whole for folder in space.measure_space(tmp_path, longest_s=-1).folders] == [False]


def test_a_missing_data_directory_has_no_folders(tmp_path):
    """The free space of its disk is still known."""
    usage = space.measure_space(tmp_path / "none" / "yet")
    assert usage.folders == []
    assert usage.disk_bytes > 0


def test_low_space_is_a_warning():
    """Below 2 GiB."""
    assert space.Space("/", 10**12, 2**31 - 1, 1, 1, []).is_low
    assert not space.Space("/", 10**12, 2**31, 1, 1, []).is_low
