import signal
import subprocess
import sys
import threading

import httpx2
import pytest

from penstock.errors import PortTaken
from penstock.source.serve import open_listener

PROGRAM = """
from penstock.source.serve import serve_app
from penstock.source.standin import make_app
serve_app(make_app(), {port})
print("stopped cleanly")
"""


def test_a_port_in_use_is_an_error():
    """The error names the port and the setting to change."""
    with open_listener(0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} is in use") as caught:
            open_listener(port)
    assert "PENSTOCK_SOURCE_PORT" in caught.value.hint


def test_the_stand_in_listens_only_on_loopback():
    """The stand-in listens only on loopback."""
    with open_listener(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_shuts_down_cleanly(number):
    """SIGTERM and SIGINT shut it down cleanly: exit 0, nothing in the log."""
    with open_listener(0) as listener:
        port = listener.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(port=port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        answer = wait_for_answer(f"http://127.0.0.1:{port}/health", process)
        assert answer.status_code == 200
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
    assert (process.returncode, output) == (0, "stopped cleanly\n")


def wait_for_answer(url: str, process: subprocess.Popen) -> httpx2.Response:
    pause = threading.Event()
    with httpx2.Client(trust_env=False) as client:
        while process.poll() is None:
            try:
                return client.get(url)
            except httpx2.ConnectError:
                pause.wait(0.02)
    raise AssertionError(process.stdout.read())
