"""Check the ports of services and find the processes that hold them."""

from collections.abc import Iterable

import psutil

from penstock.config import LOOPBACK, PREFIX, Settings
from penstock.errors import PortTaken
from penstock.net import is_port_free
from penstock.stack.service import Service


def check_ports(settings: Settings, services: Iterable[Service]) -> None:
    """Raise `PortTaken` unless all ports of the services are free. It names each holder and setting."""
    taken = [
        (service.name, setting, port)
        for service in services
        for setting, port in ((name, getattr(settings, name)) for name in service.ports)
        if not is_port_free(port, LOOPBACK)
    ]
    if taken:
        raise PortTaken(
            "\n".join(
                f"port {port}, needed by {name}, is in use by {describe_holder(port)}" for name, _, port in taken
            ),
            hint=_format_hint([setting for _, setting, _ in taken]),
            ports={setting: port for _, setting, port in taken},
        )


def _format_hint(settings: list[str]) -> str:
    variables = " ".join(f"{PREFIX}{name.upper()}" for name in settings)
    if len(settings) == 1:
        return f"stop that process, or set {variables} to another port"
    return f"stop those processes, or set each to another port: {variables}"


def describe_holder(port: int) -> str:
    """Describe the process that listens on a port, as far as visible to this user."""
    for connection in psutil.net_connections(kind="inet"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return _describe_process(connection.pid)
    return "a process of another user"


def _describe_process(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"
