"""Commands for Docker Compose that require no installation. The script ./penstock runs them.

    python -m penstock.compose.commands init [--simple-login]
    python -m penstock.compose.commands doctor [--json]

Standard library only, also for Python 3.9, macOS and Windows.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from penstock import remedies
from penstock.compose import doctor, environment
from penstock.errors import exits_by_kind
from penstock.stack.check import format_checks

ROOT = Path(__file__).resolve().parents[3]


def main(arguments: list[str]) -> int:
    """Run a command and return its exit code. Raises `UsageError`."""
    parser = argparse.ArgumentParser(prog=remedies.PROGRAM, description="Commands for Docker Compose.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    init = commands.add_parser("init", help="write .env with random secrets; existing values are kept")
    init.add_argument("--simple-login", action="store_true", help="Airflow's password is `airflow`; on loopback only")
    checks = commands.add_parser("doctor", help="check the requirements of Docker Compose; exit 1 if a check fails")
    checks.add_argument("--json", action="store_true", help="print a JSON list")
    options = parser.parse_args(arguments)
    if options.command == "init":
        return run_init(simple_login=options.simple_login)
    return run_doctor(as_json=options.json)


def run_init(*, simple_login: bool) -> int:
    """Add missing variables to `.env` and print their names. Raises `UsageError`."""
    path = ROOT / ".env"
    written = environment.add_missing_variables(path, simple_login=simple_login)
    message = f"wrote to {path}: {', '.join(written)}\n  next: docker compose up -d --build"
    print(message if written else f"{path} is complete: nothing was written", file=sys.stderr)  # noqa: T201
    return 0


def run_doctor(*, as_json: bool) -> int:
    """Print all checks. Returns 1 if one failed."""
    checks = doctor.run_checks(ROOT)
    print(json.dumps([asdict(check) for check in checks], indent=2) if as_json else format_checks(checks))  # noqa: T201
    return 0 if all(check.ok for check in checks) else 1


if __name__ == "__main__":
    with exits_by_kind("penstock"):
        sys.exit(main(sys.argv[1:]))
