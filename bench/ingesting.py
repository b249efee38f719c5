"""Runs stages 1 to 3 as Airflow's task does. Its argument is a JSON object: records, api."""

import json
import sys
import uuid

from penstock import config, pipelines
from penstock.pipeline import ingest


def main() -> None:
    """Ingest, between a line at the start and one at the end."""
    asked, settings = json.loads(sys.argv[1]), config.load()
    tell(1)
    order = ingest.Order(f"bench-{uuid.uuid4().hex}", records=asked["records"], source_url=asked["api"])
    tell(ingest.run(settings, pipelines.of(settings), order).produced)


def tell(done: int) -> None:
    """Write how many are acknowledged."""
    sys.stdout.write(f"{json.dumps({'done': done})}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
