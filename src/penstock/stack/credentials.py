"""The random secrets of one home, made once and readable by their owner only."""

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
    """The secrets of this home; those that are missing are made and kept."""
    path = layout.credentials
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    missing = {name: make() for name, make in MAKERS.items() if name not in known}
    if missing:
        known |= missing
        write(path, json.dumps(known, indent=2) + "\n", 0o600)
    return known
