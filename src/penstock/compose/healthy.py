"""Whether something in a container is well, for its health check: exit 0, or 1 and why.

    python -m penstock.compose.healthy http://127.0.0.1:9021/health/ready           answers 200
    python -m penstock.compose.healthy http://spark-master:9090/json/ ALIVE         and its answer holds this
    python -m penstock.compose.healthy http://airflow/api/v2/monitor/health triggerer    and that part is healthy
    python -m penstock.compose.healthy /var/lib/penstock/run/watch.beat 60          was touched so many seconds ago

The standard library alone: it runs every few seconds.
"""

import http.client
import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

TIMEOUT_S = 8.0
_AIRFLOW = "/api/v2/monitor/health"


class NotHealthy(Exception):
    """Why not."""


def check(what: str, more: str = "") -> None:
    """Return when it is well. Raises `NotHealthy`."""
    if what.startswith("http://"):
        _check_answer(what, more, _answer(what))
    else:
        _check_age(Path(what), float(more))


def _answer(address: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never by a proxy
    try:
        with opener.open(address, timeout=TIMEOUT_S) as answer:
            return str(answer.read().decode(errors="replace"))
    except (http.client.HTTPException, OSError) as error:
        raise NotHealthy(f"{address}: {error}") from None


def _check_answer(address: str, wanted: str, text: str) -> None:
    if address.endswith(_AIRFLOW):
        status = _airflow_status(address, wanted, text)
        if status != "healthy":
            raise NotHealthy(f"Airflow's {wanted} is {status}")
    elif wanted not in text:
        raise NotHealthy(f"{address} does not say {wanted}")


def _airflow_status(address: str, part: str, text: str) -> Any:
    try:
        return (json.loads(text).get(part) or {}).get("status")
    except (ValueError, AttributeError):
        raise NotHealthy(f"{address} did not answer with Airflow's health: {text[:100]!r}") from None


def _check_age(path: Path, most_s: float) -> None:
    try:
        age_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        raise NotHealthy(f"{path} is not there yet") from None
    if age_s > most_s:
        raise NotHealthy(f"{path} was touched {age_s:.0f} s ago")


def main(arguments: list[str]) -> int:
    """The exit code."""
    try:
        check(*arguments)
    except NotHealthy as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
