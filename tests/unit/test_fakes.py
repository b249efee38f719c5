import inspect

import pytest
from cassandra.cluster import Cluster, ResponseFuture, Session
from cassandra.metadata import Metadata
from confluent_kafka import Consumer, Producer

from penstock.broker.registry import Registry
from tests.unit import fakes


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (fakes.FakeProducer, Producer),
        (fakes.FakeConsumer, Consumer),
        (fakes.FakeSession, Session),
        (fakes.FakeFuture, ResponseFuture),
        (fakes.FakeCluster, Cluster),
        (fakes.FakeMetadata, Metadata),
        (fakes.FakeRegistry, Registry),
    ],
)
def test_fakes_have_the_signatures_of_the_real_ones(fake, real):
    """A fake has no public method that the real one lacks, and accepts no other arguments."""
    for name, call in inspect.getmembers(fake, inspect.isfunction):
        if name.startswith("_"):
            continue
        assert hasattr(real, name), f"{real.__name__} has no {name}"
        try:
            known = inspect.signature(getattr(real, name)).parameters
        except ValueError:  # written in C
            continue
        if not any(item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD) for item in known.values()):
            assert set(inspect.signature(call).parameters) <= set(known), name
