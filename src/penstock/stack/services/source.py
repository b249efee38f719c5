"""Stand-in for the HTTP API that is the source of records."""

from penstock import __name__ as package
from penstock import remedies
from penstock.stack import probes
from penstock.stack.environment import StackEnvironment
from penstock.stack.service import Service


def build_services(environment: StackEnvironment) -> list[Service]:
    """Return the stand-in API."""
    port = environment.settings.source_port
    return [
        Service(
            name="source",
            title="Stand-in API",
            version="-",
            ports=("source_port",),
            command=(environment.python, "-m", f"{package}.cli", "source", "serve", "--port", str(port)),
            env=environment.child_env(),
            directory=environment.repository,
            probe=probes.probe_source,
            memory_mib=70,
            page=f"http://127.0.0.1:{port}/api/?results=1",
            hint=remedies.show_logs("source"),
        )
    ]
