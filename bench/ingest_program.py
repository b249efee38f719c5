"""Program that runs stages 1 to 3 as Airflow's task does. Its argument is a JSON object: records, api."""

import json
import sys
import uuid

from penstock import config, pipelines
from penstock.pipeline import ingest


def main() -> None:
    """Run the ingest, and report progress once at its start and once at its end."""
    options, settings = json.loads(sys.argv[1]), config.load()
    report_progress(1)
    order = ingest.RunOrder(f"bench-{uuid.uuid4().hex}", records=options["records"], source_url=options["api"])
    report_progress(ingest.run(settings, pipelines.of(settings), order).produced)


def report_progress(done: int) -> None:
    """Report how many records are done."""
    sys.stdout.write(f"{json.dumps({'done': done})}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
