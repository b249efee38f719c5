"""Run stages 1 to 3 as Airflow's task does. The argument is a JSON object: records, api."""

import json
import sys
import uuid

from penstock import config, pipelines
from penstock.pipeline import ingest


def main() -> None:
    """Run the ingest. Reports progress at its start and its end."""
    options, settings = json.loads(sys.argv[1]), config.load()
    report_progress(1)
    order = ingest.RunOrder(f"bench-{uuid.uuid4().hex}", records=options["records"], source_url=options["api"])
    report_progress(ingest.run(settings, pipelines.of(settings), order).produced)


def report_progress(done: int) -> None:
    """Print the number of processed records."""
    sys.stdout.write(f"{json.dumps({'done': done})}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
