from struct import unpack
from typing import Annotated
from uuid import UUID

import pytest
from cassandra import cqltypes
from msgspec import Meta

from penstock.contract import cql
from penstock.contract.record import KEY, Record
from penstock.contract.table import build_table
from penstock.pipelines.users import User
from tests.unit.framed import values_in
from tests.unit.records import Reading


class Named(Record, frozen=True, kw_only=True):
    """A record with a text key."""

    name: Annotated[str, Meta(min_length=1, max_length=5, extra=KEY)]


def test_a_deletion_names_the_key_and_the_write_timestamp():
    """The statement deletes one row, with the write timestamp of its position in Kafka."""
    assert cql.render_delete(build_table("ks", "t", User)) == "DELETE FROM ks.t USING TIMESTAMP ? WHERE id = ?"
    assert cql.render_delete(build_table("ks", "t", Reading)) == "DELETE FROM ks.t USING TIMESTAMP ? WHERE sensor = ?"


@pytest.mark.parametrize(
    ("row", "key", "kind"),
    [(User, UUID(int=5), cqltypes.UUIDType), (Reading, 7, cqltypes.Int32Type), (Named, "Zoë", cqltypes.UTF8Type)],
)
def test_a_deletion_is_bound_like_by_the_driver(row, key, kind):
    """Its values are the write timestamp and the key, in the statement's order, for a key of each kind."""
    write_us, cell = values_in(cql.build_delete_encoder(build_table("ks", "t", row))(key, 1_700_000_000_000_005))
    assert unpack(">q", write_us)[0] == 1_700_000_000_000_005
    assert kind.deserialize(cell, 5) == key
