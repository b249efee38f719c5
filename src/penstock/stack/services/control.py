"""The control center: the page that shows the whole pipeline."""

from penstock import __name__ as package
from penstock import remedies
from penstock.stack import probes
from penstock.stack.environment import StackEnvironment
from penstock.stack.service import Service


def build_services(environment: StackEnvironment) -> list[Service]:
    """Return the control center. It needs no other service: unavailable ones are shown as down."""
    settings = environment.settings
    return [
        Service(
            name="control-center",
            title="Control center",
            version="-",
            ports=("control_port",),
            command=(environment.python, "-m", f"{package}.cli", "control"),
            env={**environment.child_env(), "MALLOC_ARENA_MAX": "2"},
            directory=environment.repository,
            probe=probes.probe_control,
            memory_mib=130,
            page=f"http://127.0.0.1:{settings.control_port}",
            hint=remedies.show_logs("control-center"),
        )
    ]
