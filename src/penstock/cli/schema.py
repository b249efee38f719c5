"""schema: the files under schemas/, rendered from the pipelines."""

import json
from pathlib import Path
from typing import Annotated

import typer

from penstock.stack.layout import REPOSITORY


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The schemas rendered from the pipeline's record.", no_args_is_help=True)
    group.command()(render)
    app.add_typer(group, name="schema")


def render(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a file is stale.")] = False,
) -> None:
    """Write schemas/: JSON Schema, Avro schema, Spark DDL and CQL of the pipeline in force."""
    from penstock.errors import PenstockError

    stale = [path for path, text in renderings().items() if _differs(path, text)]
    if check and stale:
        names = ", ".join(path.name for path in stale)
        raise PenstockError(f"stale in schemas/: {names}", hint="./penstock schema render")
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(renderings()[path])
        typer.echo(f"wrote {path.relative_to(REPOSITORY)}")


def _differs(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text() != text


def renderings() -> dict[Path, str]:
    """The text of each file under schemas/ that the pipeline in force has."""
    from penstock import config, pipelines
    from penstock.contract import cql, schemas

    settings = config.load()
    pipeline = pipelines.of(settings)
    keyspace = settings.cassandra_keyspace or pipeline.keyspace
    statements = (
        cql.create_keyspace(keyspace, settings.cassandra_replication),
        cql.create_table(keyspace, pipeline.table, pipeline.stored),
    )
    texts = {
        "json": json.dumps(schemas.json_schema(pipeline.record), indent=2),
        "avsc": json.dumps(schemas.avro_schema(pipeline.record), indent=2),
        "ddl": schemas.spark_ddl(pipeline.record).replace(", ", ",\n"),
        "cql": ";\n\n".join(statements) + ";",
    }
    return {REPOSITORY / "schemas" / f"{pipeline.topic}.{suffix}": text + "\n" for suffix, text in texts.items()}
