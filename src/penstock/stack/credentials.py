"""The random secrets of one home, made once and readable by their owner only."""

import base64
import json
import secrets
from collections.abc import Mapping

from penstock.stack.layout import Layout, write


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _cluster_id() -> str:
    """A Kafka cluster id: 16 bytes in URL-safe base 64; a leading dash would read as an option."""
    while (text := base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")).startswith("-"):
        pass
    return text


MAKERS = {
    "airflow_jwt_secret": secrets.token_hex,
    "airflow_api_secret": secrets.token_hex,
    "airflow_fernet_key": _fernet_key,
    "spark_rpc_secret": secrets.token_hex,
    "kafka_cluster_id": _cluster_id,
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
