import threading

import pytest

from penstock.errors import KafkaUnreachable
from penstock.web.query_cache import QueryCache
from tests.unit.fakes import Clock


def test_concurrent_callers_share_one_result():
    """The query runs once; callers that arrive meanwhile wait for its result."""
    asked = []
    begun, go = threading.Event(), threading.Event()

    def question():
        asked.append(1)
        begun.set()
        go.wait(10)
        return len(asked)

    shared, answers = QueryCache(question, for_s=60), []
    threads = [threading.Thread(target=lambda: answers.append(shared())) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go.set()
    for thread in threads:
        thread.join(10)
    assert answers == [1] * 20


def test_a_result_is_requested_again_once_it_is_old_or_invalidated():
    """And not before."""
    clock, answers = Clock(), iter(range(10))
    shared = QueryCache(lambda: next(answers), 5, clock.monotonic)
    assert [shared(), shared()] == [0, 0]
    clock.sleep(5)
    assert shared() == 1
    shared.clear_cache()
    assert [shared(), shared()] == [2, 2]


def test_an_error_is_shared_too():
    """Twenty pages do not wait for an unavailable service one after another."""
    asked = []

    def question():
        asked.append(1)
        raise KafkaUnreachable("away")

    shared = QueryCache(question, for_s=60)
    for _ in range(3):
        with pytest.raises(KafkaUnreachable, match="away"):
            shared()
    assert len(asked) == 1
