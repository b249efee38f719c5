"""The control center: the page that shows the whole pipeline."""

from penstock import __name__ as package
from penstock import remedies
from penstock.stack import probes
from penstock.stack.service import Service
from penstock.stack.site import Site


def services(site: Site) -> list[Service]:
    """Return the control center. It needs no other service: unavailable ones are shown as down."""
    settings = site.settings
    return [
        Service(
            name="control-center",
            title="Control center",
            version="-",
            ports=("control_port",),
            command=(site.python, "-m", f"{package}.cli", "control"),
            env={**site.child_environment(), "MALLOC_ARENA_MAX": "2"},
            directory=site.repository,
            probe=probes.control,
            memory_mib=130,
            page=f"http://127.0.0.1:{settings.control_port}",
            hint=remedies.show_logs("control-center"),
        )
    ]
