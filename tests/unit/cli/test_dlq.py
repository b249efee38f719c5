import base64
import hashlib
import stat

import msgspec
import pytest
from typer.testing import CliRunner

from penstock import log, pipelines
from penstock.broker import registry
from penstock.cli import app
from penstock.codec.wire_format import encode_header
from penstock.contract.fault import Reason
from penstock.dead_letters import redrive
from penstock.errors import RegistryUnreachable, UsageError
from penstock.sink import cassandra
from tests.unit.fakes import AVRO_ID, FakeRegistry, FakeSession
from tests.unit.letters import FakeKafka, FakeSettled, reject, set_aside_shrunk
from tests.unit.records import READINGS

BAD = b'{"sensor":"secret-name","celsius":2.5}'
GOOD = b'{"sensor":1,"celsius":2.5}'


class World:
    """The dead-letter topic and the resolutions of its records."""

    def __init__(self, monkeypatch) -> None:
        self.kafka = FakeKafka().use(monkeypatch)
        self.table = FakeSettled()
        self.session = FakeSession(self.table)
        self.registry = FakeRegistry()

    @property
    def sent(self):
        return self.kafka.lying("readings")


@pytest.fixture
def world(monkeypatch):
    world = World(monkeypatch)
    log.configure("ERROR")
    monkeypatch.setattr(cassandra, "connect", lambda _settings: world.session)
    monkeypatch.setattr(pipelines, "of", lambda _settings: READINGS)
    monkeypatch.setattr(registry, "Registry", lambda _settings: world.registry)
    monkeypatch.setattr(redrive, "Registry", lambda _settings: world.registry)
    monkeypatch.setattr(redrive, "create_producer", lambda _settings: world.kafka.producer)
    return world


def run(*words, answer=None):
    return CliRunner().invoke(app, ["dlq", *map(str, words)], input=answer)


@pytest.mark.parametrize(
    "words", [("list",), ("redrive",), ("redrive", "--dry-run"), ("discard", "--all"), ("export", "-")], ids=str
)
def test_an_empty_dead_letter_topic_is_no_error(world, words):
    """It is reported on stderr, and nothing is queried, sent or created."""
    result = run(*words)
    assert (result.exit_code, result.stdout) == (0, "")
    assert any(
        text in result.stderr for text in ("no pending dead letters", "no dead letter matches", "0 dead letters")
    )
    assert not world.table.is_there


def test_list_counts_by_reason_and_shows_no_value(world):
    """`list` counts duplicates once and suggests the next command."""
    dead_letter = reject(1, BAD, rules=("sensor:type",))
    world.kafka.set_aside(
        dead_letter, dead_letter, reject(2, BAD, rules=("sensor:type",)), reject(3, b"{", reason=Reason.JSON_MALFORMED)
    )
    result = run("list")
    heads, *lines = result.stdout.splitlines()
    states = ["waiting", "redriven", "superseded", "discarded"]
    assert heads.split() == ["reason", "rules", *states, "first", "last", "example"]
    assert [line.split()[:3] for line in lines] == [
        ["contract_broken", "sensor:type", "2"],
        ["json_malformed", "a:type", "1"],
    ]
    assert "Next: ./penstock dlq show 0:" in result.stderr
    assert "secret-name" not in result.output + run("list", "--json").output
    assert len(run("list", "--reason", "json_malformed").stdout.splitlines()) == 2


def test_list_truncates_long_rules_in_the_table(world):
    """Long rules are truncated in the table but not in JSON."""
    rules = tuple(f"field{at}:type" for at in range(100))
    world.kafka.set_aside(reject(1, BAD, rules=rules))
    assert max(map(len, run("list").stdout.splitlines())) < 200
    assert msgspec.json.decode(run("list", "--json").stdout)[0]["rules"] == list(rules)


def test_list_shows_resolved_records_on_request(world):
    """By default, `list` shows only groups with pending records."""
    world.kafka.set_aside(reject(1, GOOD))
    assert run("redrive").exit_code == 0
    result = run("list")
    assert (result.stdout, result.stderr) == (
        "",
        "no pending dead letters; for all of them: ./penstock dlq list --all\n",
    )
    (group,) = msgspec.json.decode(run("list", "--all", "--json").stdout)
    assert (group["waiting"], group["redriven"]) == (0, 1)
    assert run("list", "--json").stdout == "[]\n"


def test_show_prints_all_details_of_one_record(world):
    """`show` prints facts, key, headers, and the value as indented JSON."""
    world.kafka.set_aside(reject(1, BAD, rules=("sensor:type",), headers=[("h", b"\x1b[2J"), ("n", None)]))
    result = run("show", "0:0")
    assert result.exit_code == 0
    assert '"sensor": "secret-name"' in result.stdout
    assert "readings/7/0/1" in result.stdout
    assert "\\x1b[2J" in result.stdout
    assert "\x1b" not in result.stdout
    assert "(null)" in result.stdout
    assert "./penstock dlq redrive --place 0:0 --set FIELD=VALUE" in result.stderr
    document = msgspec.json.decode(run("show", "0:0", "--json").stdout)
    assert (document["state"], document["rules"], document["key"]) == ("waiting", ["sensor:type"], "k")
    assert base64.b64decode(document["value_base64"]) == BAD
    assert document["headers"][1] == {"name": "n", "value": None, "base64": None}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "value, 0 bytes:\n(null)"),
        (b"plain \x07text", "value, 11 bytes:\nplain \\x07text"),
        (b"\x01\xff", "value, 2 bytes:\n01 ff"),
        (b"x" * 30_000, "\n... truncated; for the rest: ./penstock dlq export"),
        (b'{"a":"\xc2\x9b"}', '{\n  "a": "\\x9b"\n}'),
    ],
)
def test_show_prints_any_value(world, value, shown):
    """`show` prints any value as text or hex, with control characters escaped and long values truncated."""
    world.kafka.set_aside(reject(1, value, key=b"\xff"))
    result = run("show", "0:0")
    assert shown in result.stdout
    assert "ff" in result.stdout.partition("key")[2]


def test_show_names_the_position_of_an_omitted_value(world):
    """`show` prints size, hash and position of a value that was omitted, as text and as JSON."""
    letter = set_aside_shrunk(world.kafka, reject(3, b"x" * 9000))
    shown = run("show", letter.place).stdout
    assert "value, 9000 bytes, too large for the dead-letter topic: the record is in readings, partition 0" in shown
    document = msgspec.json.decode(run("show", letter.place, "--json").stdout)
    assert (document["value_bytes"], document["left_out"], document["value_base64"]) == (9000, ["value"], None)
    assert document["value_sha256"] == hashlib.sha256(b"x" * 9000).hexdigest()


def test_show_needs_no_registry(world):
    """Without the registry, `show` prints the bytes of an Avro value."""
    world.kafka.set_aside(reject(1, encode_header(AVRO_ID) + b"\x02"))
    world.registry._error = RegistryUnreachable("away")
    assert "value, 6 bytes, wire-format header 00 00 00 00 02:\n\\x02\n" in run("show", "0:0").stdout


@pytest.mark.parametrize("words", [("show", "0:9"), ("show", "x"), ("redrive", "--place", "0:9")], ids=str)
def test_a_position_that_does_not_exist_is_a_usage_error(world, words):
    """A position that does not exist is a usage error that names the available ones."""
    world.kafka.set_aside(reject(1, BAD))
    with pytest.raises(UsageError):
        raise run(*words).exception


def test_an_export_is_readable_only_by_its_owner(world, tmp_path):
    """An export is private and has one JSON object per line, with the value as object and bytes."""
    world.kafka.set_aside(reject(1, BAD), reject(2, b"[1]"), reject(3, None), reject(1, BAD))
    file = tmp_path / "out.jsonl"
    file.write_text("before")
    result = run("export", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"3 dead letters written to {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = [msgspec.json.decode(line) for line in file.read_bytes().splitlines()]
    assert [line["value"] for line in lines] == [{"sensor": "secret-name", "celsius": 2.5}, None, None]
    assert [line["value_base64"] for line in lines][1:] == [base64.b64encode(b"[1]").decode(), None]
    assert {"place", "identity", "reason", "rules", "stage", "message", "time", "state", "key", "headers"} <= lines[
        0
    ].keys()
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_export_leaves_the_file_unchanged(world, tmp_path):
    """A failed export leaves the existing file unchanged and no temporary file."""
    world.kafka.set_aside(reject(1, BAD), reject(2, encode_header(AVRO_ID) + b"\x02"))
    world.registry._error = RegistryUnreachable("away")
    file = tmp_path / "out.jsonl"
    file.write_text("before")
    assert isinstance(run("export", file).exception, RegistryUnreachable)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_an_export_to_stdout_contains_only_lines(world):
    """An export to stdout contains only lines. --all includes records that are not pending."""
    world.kafka.set_aside(reject(1, BAD), reject(2, GOOD))
    run("redrive")
    result = run("export", "-")
    assert [msgspec.json.decode(line)["state"] for line in result.stdout.splitlines()] == ["waiting"]
    result = run("export", "-", "--all")
    states = [msgspec.json.decode(line)["state"] for line in result.stdout.splitlines()]
    assert states == ["waiting", "redriven"]


@pytest.mark.parametrize("name", ["", "no/such/file"])
def test_an_export_needs_a_folder(world, tmp_path, name):
    """An export to a missing folder, or onto a folder, is a usage error."""
    assert isinstance(run("export", tmp_path / name).exception, UsageError)


def test_redrive_sets_fields(world):
    """`redrive` counts the sent records and reports those that are still invalid."""
    world.kafka.set_aside(reject(1, BAD), reject(2, b"{"))
    result = run("redrive", "--set", "celsius=1.5", "--place", "0:0")
    assert result.exit_code == 0
    assert "0:0 still invalid: sensor: Expected `int`, got `str`" in result.stdout
    result = run("redrive", "--set", "celsius=1.5", "--set", "sensor=7", "--place", "0:0", "--json")
    document = msgspec.json.decode(result.stdout)
    assert (
        document["selected"],
        document["sent"],
        document["still_broken"],
        document["in_hand"],
        document["already"],
    ) == (
        1,
        1,
        0,
        0,
        0,
    )
    assert world.sent[0].value()[5:] == b'{"sensor":7,"celsius":1.5}'


def test_a_dry_run_names_what_would_be_sent(world):
    """A dry run lists what would be sent and is labelled as such."""
    world.kafka.set_aside(reject(1, GOOD))
    result = run("redrive", "--dry-run")
    assert result.stdout.splitlines()[0].split() == ["records", "dry", "run"]
    assert "0:0 sent: to readings" in result.stdout
    assert world.sent == []


def test_redrive_reports_superseded_records(world):
    """A newer version is stored: the record is not sent, unless it is to be the newest version."""
    world.table.others["readings"] = [{"sensor": 1, "kafka_partition": 0, "kafka_offset": 9, "written_us": 7 + 9}]
    world.kafka.set_aside(reject(1, GOOD), reject(2, GOOD))
    result = run("redrive", "--place", "0:0")
    assert result.exit_code == 0
    assert "superseded" in result.stdout
    assert "0:0 superseded: a newer version of its id is stored, from 0:9" in result.stdout
    assert "superseded (newer version at 0:9)" in run("show", "0:0").stdout
    assert world.sent == []
    done = msgspec.json.decode(run("redrive", "--as-new", "--json").stdout)
    assert (done["sent"], done["superseded"], done["already"], len(world.sent)) == (1, 0, 1, 1)
    (group,) = msgspec.json.decode(run("list", "--all", "--json").stdout)
    assert (group["waiting"], group["redriven"], group["superseded"], group["discarded"]) == (0, 1, 1, 0)


def test_redrive_takes_an_edited_export(world, tmp_path):
    """An edited export can be redriven."""
    world.kafka.set_aside(reject(1, BAD), reject(2, b"{"))
    file = tmp_path / "out.jsonl"
    run("export", file)
    first, second = [msgspec.json.decode(line) for line in file.read_bytes().splitlines()]
    first["value"]["sensor"] = 3
    second["value"] = {"sensor": 4, "celsius": 0.5}
    file.write_bytes(b"\n".join(map(msgspec.json.encode, (first, second))))
    result = run("redrive", "--edit", file, "--json")
    assert msgspec.json.decode(result.stdout)["sent"] == 2
    assert [message.key() for message in world.sent] == [b"3", b"4"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("redrive", "--set", "nope=1"), "sensor, celsius"),
        (("redrive", "--reason", "nope"), "value_missing"),
        (("list", "--reason", "nope"), "value_missing"),
        (("redrive", "--set", "celsius=1", "--edit", __file__), "line 1 of the edit file"),
        (("discard",), "--all"),
        (("discard", "--all", "--reason", "json_malformed"), "invalid selection"),
        (("discard", "--all", "--place", "0:0"), "invalid selection"),
    ],
    ids=str,
)
def test_usage_errors_list_what_is_available(world, words, says):
    """A usage error does nothing, and the message lists what is available."""
    world.kafka.set_aside(reject(1, GOOD))
    failed = run(*words).exception
    assert isinstance(failed, UsageError)
    assert says in f"{failed.message} {failed.hint}"
    assert world.sent == []


def test_fields_and_a_file_together_are_a_usage_error(world, tmp_path):
    """Setting fields and passing a file together is a usage error, whatever the file contains."""
    file = tmp_path / "edit.jsonl"
    file.touch()
    with pytest.raises(UsageError, match="either fields are set, or"):
        raise run("redrive", "--set", "celsius=1", "--edit", file).exception


def test_discard_asks_for_confirmation(world):
    """`discard` asks with the number of records, and changes nothing if declined."""
    world.kafka.set_aside(reject(1, GOOD), reject(2, BAD))
    result = run("discard", "--all", answer="n\n")
    assert result.exit_code == 1
    assert "Discard 2 dead letters of readings" in result.stderr
    assert not world.table.is_there
    result = run("discard", "--place", "0:1", "--note", "junk", answer="y\n")
    assert result.exit_code == 0
    assert [row["note"] for row in world.table.rows.values()] == ["junk"]


def test_discard_does_not_ask_with_yes(world):
    """With --yes `discard` does not ask. Records redriven before are reported and keep their state."""
    world.kafka.set_aside(reject(1, GOOD), reject(2, BAD))
    run("redrive")
    result = run("discard", "--all", "--yes", "--json")
    document = msgspec.json.decode(result.stdout)
    assert (document["dry_run"], document["discarded"], document["already"]) == (False, 1, 1)
    assert "0:0 already resolved: redriven to 0:2" in run("discard", "--all", "--yes").stdout
