"""1 fetch: the client for an HTTP API of records, and the stand-in for the random user API.

`client` needs httpx2 only; `standin` and what it is made of (faker, starlette, uvicorn) are imported where it is run.
"""

from penstock.source.client import HttpSource

__all__ = ["HttpSource"]
