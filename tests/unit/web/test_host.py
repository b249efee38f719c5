"""Which services the page may inspect and restart."""

import pytest

from penstock.config import read
from penstock.errors import UsageError
from penstock.web.host import Elsewhere, create_host
from penstock.web.local_stack import LocalStack


def test_a_remote_cluster_is_left_alone(tmp_path):
    """Its processes are not ours: the page says so."""
    host = create_host(read(home=tmp_path, kafka_bootstrap="kafka.example:9092"))
    assert isinstance(host, Elsewhere)
    assert host.list_services() == []
    for act in (lambda: host.locate_log("kafka"), lambda: host.stop("kafka"), lambda: host.start("kafka")):
        with pytest.raises(UsageError, match="the settings do not point to the local stack"):
            act()


def test_the_local_stack_is_identified_by_its_data_directory(tmp_path):
    """A data directory without a stack has none."""
    assert not create_host(read(home=tmp_path)).is_local
    (tmp_path / "secrets.json").write_text("{}")
    assert isinstance(create_host(read(home=tmp_path)), LocalStack)
    assert not create_host(read(home=tmp_path, kafka_bootstrap="kafka.example:9092")).is_local


def test_local_services_are_started_and_stopped_like_by_the_commands(tmp_path, monkeypatch):
    """`up` and `down` of one service."""
    done = []
    monkeypatch.setattr("penstock.stack.launch.start_services", lambda settings, names: done.append(("up", names)))
    monkeypatch.setattr("penstock.stack.launch.stop_services", lambda settings, names: done.append(("down", names)))
    host = LocalStack(read(home=tmp_path))
    host.stop("spark-job")
    host.start("spark-job")
    assert done == [("down", ["spark-job"]), ("up", ["spark-job"])]
