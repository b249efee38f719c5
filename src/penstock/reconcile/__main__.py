"""Verify the whole topic and store the receipt. The watch runs this on a schedule, in a process of its own."""

import sys

from penstock import log
from penstock.config import load
from penstock.errors import exits_by_kind
from penstock.reconcile.verify import verify
from penstock.sink.cassandra import open_session


def main() -> None:
    """Exit 0 if the receipt balances, 1 if it does not, and with the error's code if there is none."""
    with exits_by_kind("verify"):
        settings = load()
        log.configure(settings.log_level, json=settings.log_json)
        with open_session(settings) as session:
            balanced = verify(settings, session).balanced
    sys.exit(0 if balanced else 1)


if __name__ == "__main__":
    main()
