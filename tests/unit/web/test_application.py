import httpx2
import pytest

from penstock.config import read
from penstock.errors import Unreachable
from penstock.web.stream.application import Master, Pages, fetch_application, fetch_master, ui_urls

API = "/api/v1/applications"
EXECUTOR = {
    "id": "0",
    "hostPort": "127.0.0.1:4",
    "isActive": True,
    "totalCores": 2,
    "activeTasks": 1,
    "failedTasks": 3,
    "completedTasks": 10,
    "maxMemory": 100,
    "totalDuration": 50,
    "totalGCTime": 5,
}
ANSWERS = {
    API: [
        {
            "id": "app-1",
            "name": "penstock t",
            "attempts": [{"startTime": "2026-01-01T00:00:00.000GMT", "appSparkVersion": "4.1.1"}],
        }
    ],
    f"{API}/app-1/executors": [EXECUTOR, EXECUTOR | {"id": "1", "peakMemoryMetrics": {"JVMHeapMemory": 7}}],
    "/json/": {
        "url": "spark://h:1",
        "status": "ALIVE",
        "aliveworkers": 1,
        "cores": 2,
        "coresused": 2,
        "memory": 1024,
        "memoryused": 640,
        "activeapps": [{"state": "RUNNING"}, {"state": "WAITING"}],
    },
}


def http(answers):
    """An HTTP client of a Spark with these responses; text stands for what is not JSON, numbers for other statuses."""

    def answer(request):
        result = answers.get(request.url.path, 404)
        if isinstance(result, Exception):
            raise result
        if isinstance(result, int):
            return httpx2.Response(result)
        return httpx2.Response(200, text=result) if isinstance(result, str) else httpx2.Response(200, json=result)

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def test_the_application_and_its_executors_are_read():
    """Times in UTC; a peak that Spark has not measured yet is unknown."""
    application = fetch_application(http(ANSWERS), "http://h:2")
    assert (application.id, application.name, application.spark_version) == ("app-1", "penstock t", "4.1.1")
    assert application.started_at == "2026-01-01T00:00:00.000+00:00"
    assert [(executor.id, executor.failed_tasks, executor.peak_heap_bytes) for executor in application.executors] == [
        ("0", 3, None),
        ("1", 3, 7),
    ]


def test_the_master_is_read():
    """Its resources, and which of them are in use."""
    assert fetch_master(http(ANSWERS), "http://h:2") == Master("spark://h:1", "alive", 1, 2, 2, 1024, 640, 1, 1)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx2.ConnectError("refused"), "refused"),
        (500, "returned status 500"),
        ("<html>", "not JSON"),
        ([], "no application"),
    ],
    ids=str,
)
def test_an_unavailable_spark_is_an_error(answer, why):
    """Also one that is still starting: the error has the address and a command."""
    with pytest.raises(Unreachable, match=why) as failed:
        fetch_application(http({API: answer}), "http://h:2")
    assert "http://h:2" in failed.value.message
    assert failed.value.hint == "./penstock status spark-job"


def test_only_the_local_stacks_spark_pages_are_known():
    """Elsewhere their addresses are unknown."""
    result = ui_urls(read(spark_job_ui_port=1, spark_ui_port=2, spark_worker_ui_port=3))
    assert result == Pages("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3")
    assert ui_urls(read(spark_master="spark://elsewhere:7077")) is None
