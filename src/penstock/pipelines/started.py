"""Which pipeline the services of the local stack were started with; `up` stores it in the data directory's `run`."""

from pathlib import Path

import msgspec

from penstock import remedies
from penstock.config import LOOPBACK, Settings
from penstock.errors import WrongSettings
from penstock.pipelines.identity import PARTS, PLACES, PipelineIdentity, describe_parts, identify_pipeline
from penstock.pipelines.loading import of

_COMPARED = {
    "airflow-scheduler": PLACES,  # each task reads the pipeline's file again, so the record may have changed
    "spark-job": PARTS,
}
"""Services that execute a run, and the parts that each must have been started with."""
_WATCHING = ("control-center", "watch")
"""Services that only read the pipeline: they too must be restarted for another pipeline."""


def path_of(settings: Settings, service: str) -> Path:
    """Return the file with the identity that a service of the local stack was started with."""
    return settings.home / "run" / "pipelines" / f"{service}.json"


def render_identity(settings: Settings) -> str:
    """Return the content of such a file, for a service that is started with these settings."""
    return msgspec.json.encode(identify_pipeline(settings, of(settings)).as_dict()).decode() + "\n"


def check_started(settings: Settings, asking: str = "") -> None:
    """Raise `WrongSettings` if the local stack was started with another pipeline than these settings'.

    The error names both pipelines, and what to run. Nothing is compared without a local stack, or if Airflow is not the
    stack's: then the run's task compares. `asking` is the service that asks, if any.
    """
    if settings.airflow_url != f"http://{LOOPBACK}:{settings.airflow_port}":
        return
    own = identify_pipeline(settings, of(settings))
    different = {
        name: text for name, parts in _COMPARED.items() if (text := _describe_difference(settings, name, own, parts))
    }
    if different:
        lines = [f"  {service} was started with {text}" for service, text in different.items()]
        heading = f"no run was triggered: PENSTOCK_PIPELINE={settings.pipeline} is not the stack's pipeline"
        outdated = [name for name in _WATCHING if name == asking or _describe_difference(settings, name, own, PARTS)]
        hint = f"{remedies.restart(*different, *outdated)}, or set PENSTOCK_PIPELINE as the stack has it"
        raise WrongSettings("\n".join([heading, *lines]), hint=hint)


def _describe_difference(settings: Settings, service: str, own: PipelineIdentity, parts: tuple[str, ...]) -> str:
    """Return as text how a service's pipeline differs from `own`; empty if it does not, or is unknown."""
    try:
        noted = msgspec.json.decode(path_of(settings, service).read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.DecodeError):
        return ""
    names = own.differences(noted, parts)
    return f"{describe_parts(noted, names)}, not {describe_parts(own.as_dict(), names)}" if names else ""
