"""Generators of random secrets. Standard library only."""

from __future__ import annotations

import base64
import secrets


def generate_fernet_key() -> str:
    """Return a key for Airflow's Fernet encryption: 32 random bytes in URL-safe base 64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def generate_cluster_id() -> str:
    """Return a Kafka cluster id: 16 random bytes in URL-safe base 64, without a leading dash."""
    while (text := base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")).startswith("-"):
        pass
    return text
