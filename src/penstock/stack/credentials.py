"""Random secrets of one data directory, generated once and readable only by their owner."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from penstock.files import hold_lock, write_atomically
from penstock.stack import generators
from penstock.stack.layout import Layout

GENERATORS = {
    "airflow_jwt_secret": secrets.token_hex,
    "airflow_api_secret": secrets.token_hex,
    "airflow_fernet_key": generators.generate_fernet_key,
    "spark_rpc_secret": secrets.token_hex,
    "kafka_cluster_id": generators.generate_cluster_id,
}


def load_secrets(layout: Layout) -> Mapping[str, str]:
    """Return the secrets of this data directory. Missing ones are generated and saved, once for concurrent commands."""
    stored = _read_secrets(layout.credentials)
    return stored if GENERATORS.keys() <= stored.keys() else _generate_missing(layout)


def _generate_missing(layout: Layout) -> Mapping[str, str]:
    """Generate and save missing secrets under a lock on the data directory."""
    layout.home.mkdir(parents=True, exist_ok=True)
    with hold_lock(layout.home):
        stored = _read_secrets(layout.credentials)
        stored |= {name: generate() for name, generate in GENERATORS.items() if name not in stored}
        write_atomically(layout.credentials, json.dumps(stored, indent=2) + "\n")
    return stored


def _read_secrets(path: Path) -> dict[str, str]:
    stored: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return stored
