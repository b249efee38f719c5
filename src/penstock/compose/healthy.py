"""Health checks of containers: exit 0 if healthy, or 1 with the reason.

    python -m penstock.compose.healthy http://127.0.0.1:9021/health/ready           responds with 200
    python -m penstock.compose.healthy http://spark-master:9090/json/ ALIVE         and contains this text
    python -m penstock.compose.healthy http://airflow/api/v2/monitor/health triggerer    and this component is healthy
    python -m penstock.compose.healthy /var/lib/penstock/run/watch.beat 60          was touched within 60 seconds

Standard library only, because it runs every few seconds.
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
    """The check failed."""


def check_target(target: str, expected: str = "") -> None:
    """Check a URL or a file. Raises `NotHealthy`."""
    if target.startswith("http://"):
        _check_response(target, expected, _fetch_text(target))
    else:
        _check_age(Path(target), float(expected))


def _fetch_text(address: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
    try:
        with opener.open(address, timeout=TIMEOUT_S) as response:
            return str(response.read().decode(errors="replace"))
    except (http.client.HTTPException, OSError) as error:
        raise NotHealthy(f"{address}: {error}") from None


def _check_response(address: str, expected: str, text: str) -> None:
    if address.endswith(_AIRFLOW):
        status = _airflow_status(address, expected, text)
        if status != "healthy":
            raise NotHealthy(f"Airflow's {expected} is {status}")
    elif expected not in text:
        raise NotHealthy(f"{address} does not contain {expected}")


def _airflow_status(address: str, component: str, text: str) -> Any:
    try:
        return (json.loads(text).get(component) or {}).get("status")
    except (ValueError, AttributeError):
        raise NotHealthy(f"{address} did not return Airflow's health: {text[:100]!r}") from None


def _check_age(path: Path, max_age_s: float) -> None:
    try:
        age_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        raise NotHealthy(f"{path} does not exist yet") from None
    if age_s > max_age_s:
        raise NotHealthy(f"{path} was last touched {age_s:.0f} s ago")


def main(arguments: list[str]) -> int:
    """Run a check and return the exit code."""
    try:
        check_target(*arguments)
    except NotHealthy as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
