"""Random secrets of one data directory, generated once and readable only by their owner."""

import json
import secrets
from collections.abc import Mapping

from penstock.stack import generators
from penstock.stack.layout import Layout, write

MAKERS = {
    "airflow_jwt_secret": secrets.token_hex,
    "airflow_api_secret": secrets.token_hex,
    "airflow_fernet_key": generators.fernet_key,
    "spark_rpc_secret": secrets.token_hex,
    "kafka_cluster_id": generators.cluster_id,
}


def load(layout: Layout) -> Mapping[str, str]:
    """Return the secrets of this data directory. Missing ones are generated and saved."""
    path = layout.credentials
    stored: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    missing = {name: generate() for name, generate in MAKERS.items() if name not in stored}
    if missing:
        stored |= missing
        write(path, json.dumps(stored, indent=2) + "\n", 0o600)
    return stored
