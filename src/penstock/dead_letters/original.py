"""The record that was left out of a dead letter, read again from its position in the pipeline's topic."""

from contextlib import closing
from dataclasses import replace

from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.dead_letters.message import PREFIX, DeadLetter
from penstock.dead_letters.omitted_value import sha256
from penstock.pipelines import Pipeline


def with_original(settings: Settings, pipeline: Pipeline, letter: DeadLetter) -> DeadLetter:
    """Return a letter with the parts that were left out of it.

    Returns it unchanged if nothing was left out, or if the topic no longer has that very record. Raises
    `KafkaUnreachable`.
    """
    origin = letter.origin
    wanted = OffsetRange(origin.partition, origin.offset, origin.offset + 1)
    if letter.left_out is None or origin.topic != pipeline.topic or not _is_held(settings, pipeline.topic, wanted):
        return letter
    with closing(topics.read_records(settings, pipeline.topic, [wanted])) as records:
        message = next(records, None)
    if message is None or sha256(message.value()) != letter.left_out.value_sha256:  # the topic was recreated
        return letter
    headers = [(name, value) for name, value in message.headers() or [] if not name.startswith(PREFIX)]
    return replace(letter, key=message.key(), value=message.value(), headers=headers, left_out=None)


def _is_held(settings: Settings, topic: str, wanted: OffsetRange) -> bool:
    return any(
        offset_range.partition == wanted.partition and offset_range.first <= wanted.first < offset_range.end
        for offset_range in topics.fetch_offset_ranges(settings, topic)
    )
