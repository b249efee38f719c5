"""Stage 1: the client for an HTTP API of records, and the stand-in for the random user API.

`client` requires only httpx2. `standin` and its dependencies (faker, starlette, uvicorn) are imported where it runs.
"""

from penstock.source.client import HttpSource

__all__ = ["HttpSource"]
