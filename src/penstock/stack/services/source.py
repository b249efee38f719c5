"""Stand-in for the HTTP API that is the source of records."""

from penstock import __name__ as package
from penstock import remedies
from penstock.stack import probes
from penstock.stack.service import Service
from penstock.stack.site import Site


def services(site: Site) -> list[Service]:
    """Return the stand-in API."""
    port = site.settings.source_port
    return [
        Service(
            name="source",
            title="Stand-in API",
            version="-",
            ports=("source_port",),
            command=(site.python, "-m", f"{package}.cli", "source", "serve", "--port", str(port)),
            env=site.child_environment(),
            directory=site.repository,
            probe=probes.source,
            memory_mib=70,
            page=f"http://127.0.0.1:{port}/api/?results=1",
            hint=remedies.show_logs("source"),
        )
    ]
