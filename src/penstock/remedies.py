"""What a user types to investigate or repair something. Only this module and `cli` know the command line.

Each function returns a text for an error's `hint`, an alert or a page; its docstring says what the command does.
Standard library only, also for Python 3.9.
"""

from __future__ import annotations

import shlex
from typing import Literal

PROGRAM = "./penstock"
"""The front door, as seen from the repository's folder."""
_ADDRESSES = {
    "kafka": "PENSTOCK_KAFKA_BOOTSTRAP",
    "registry": "PENSTOCK_REGISTRY_URL",
    "cassandra": "PENSTOCK_CASSANDRA_HOSTS",
}
"""Settings that say where a service is."""


def _command(*words: str) -> str:
    return " ".join([PROGRAM, *(shlex.quote(word) for word in words if word)])


def _option(name: str, value: object) -> tuple[str, ...]:
    return (name, str(value)) if value else ()


# The local stack


def start(*services: str) -> str:
    """Start services, or all."""
    return _command("up", *services)


def start_elsewhere() -> str:
    """Start the local stack in another folder."""
    return f"PENSTOCK_HOME=/another/folder {start()}"


def change_coordination(coordination: str) -> str:
    """Restart the local stack with another coordination of Kafka."""
    return f"{stop()} && {_command('up', '--coordination', coordination)}"


def stop(*services: str) -> str:
    """Stop services, or all."""
    return _command("down", *services)


def restart(*services: str) -> str:
    """Restart services with the effective settings."""
    return _command("restart", *services)


def show_status(service: str = "") -> str:
    """Show the state of a service, or of all. The local stack runs `airflow` as several services: then of all."""
    return _command("status", "" if service == "airflow" else service)


def check_address(service: str) -> str:
    """Show the state of a service that does not answer, or correct its address."""
    return f"{show_status(service)}, or set {_ADDRESSES[service]}"


def show_logs(service: str, *, follow: bool = False) -> str:
    """Show, or follow, the log of a service."""
    return _command("logs", service, "-f" if follow else "")


def diagnose_stack() -> str:
    """Check this machine and the local stack."""
    return _command("doctor")


def install_packages() -> str:
    """Install what `requirements.txt` locks. Any command does; this one does nothing else."""
    return _command("--version")


def show_settings() -> str:
    """Show the effective settings."""
    return _command("config")


def init_compose() -> str:
    """Write the file `.env` of Docker Compose."""
    return _command("compose", "init")


def list_drills() -> str:
    """List the drills."""
    return _command("drill")


# The pipeline


def run_pipeline(*, records: int = 0) -> str:
    """Run the pipeline once, with a number of records if given."""
    return _command("run", *_option("--records", records))


def serve_source() -> str:
    """Serve the stand-in for the API."""
    return _command("source", "serve")


def serve_on_another_port() -> str:
    """Serve the stand-in for the API on another port than the one in use."""
    return "set PENSTOCK_SOURCE_PORT, or use another --port"


def verify() -> str:
    """Balance all records of the topic."""
    return _command("verify")


def replay() -> str:
    """Process the topic again."""
    return _command("replay")


def rebuild() -> str:
    """Truncate the table and fill it again from the topic."""
    return _command("rebuild")


def show_checkpoint() -> str:
    """Show where the Spark job resumes."""
    return _command("checkpoint", "show")


def reset_checkpoint(to: Literal["earliest", "latest"] = "earliest") -> str:
    """Start the Spark job from another position."""
    return _command("checkpoint", "reset", "--to", to)


def plan_schema() -> str:
    """Show the record's changes to registry and table."""
    return _command("schema", "plan")


def apply_schema() -> str:
    """Apply the record's changes to registry and table."""
    return _command("schema", "apply")


def show_rows() -> str:
    """Show rows of the table."""
    return _command("rows")


def show_row(record_id: str, *others: str) -> str:
    """Show the row with an id, given as its text or as the value of each KEY field."""
    return _command("row", record_id, *others)


def trace_record(record_id: str) -> str:
    """Trace a record stage by stage."""
    return _command("trace", record_id)


def show_alerts() -> str:
    """Show the active alerts."""
    return _command("alerts")


def poll_alerts() -> str:
    """Poll once for alerts."""
    return _command("watch", "--once")


def serve_control_center() -> str:
    """Serve the control center."""
    return _command("control")


# Dead letters


def list_dead_letters(reason: str = "", *, resolved: bool = False) -> str:
    """Count dead letters: those with a reason, or also those that are no longer pending."""
    return _command("dlq", "list", *_option("--reason", reason), "--all" if resolved else "")


def show_dead_letter(position: str) -> str:
    """Show the dead letter at `partition:offset`."""
    return _command("dlq", "show", position)


def export_dead_letters() -> str:
    """Export the pending dead letters to a file."""
    return _command("dlq", "export", "FILE")


def redrive_dead_letters(*, set_field: str = "") -> str:
    """Redrive the pending dead letters, or repair a field of them first."""
    return _command("dlq", "redrive", *_option("--set", set_field and f"{set_field}=VALUE"))


def explain_redrive() -> str:
    """Show the options of redrive."""
    return _command("dlq", "redrive", "--help")


def assign_field(name: str = "FIELD") -> str:
    """Set a field of the dead letters that are redriven: an option, without its command."""
    return f"--set {name}=VALUE"


def redrive_one() -> str:
    """Redrive one dead letter instead of several."""
    return "the same with one --place"
