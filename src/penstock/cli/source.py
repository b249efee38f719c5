"""`penstock source`: fetch records from the API, and serve the stand-in for the random user API."""

from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(no_args_is_help=True, help="The source API, and a stand-in for it.")

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port; default: PENSTOCK_SOURCE_PORT.")]
Rate = Annotated[
    float, typer.Option(min=0, max=1, metavar="RATE", help="Share of faulty responses, and of damaged users.")
]
HostileSeed = Annotated[str, typer.Option(help="Seed of the faults; default: random.")]
Answer = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Serve the users of a captured response."),
]
Records = Annotated[int, typer.Option(min=1, metavar="N", help="Number of users.")]
UserSeed = Annotated[str, typer.Option(help="The same seed returns the same users.")]
Url = Annotated[str, typer.Option(help="URL of the API; default: PENSTOCK_SOURCE_URL.")]


def register(app: typer.Typer) -> None:
    """Add the group `source` to `app`."""
    app.add_typer(group, name="source")


@group.command()
def serve(
    port: Port = None, hostile: Rate = 0.0, seed: HostileSeed = "", answer: Answer = None, host: Host = "127.0.0.1"
) -> None:
    """Serve the stand-in for the random user API, until stopped."""
    import secrets

    from penstock import config
    from penstock.source import people, standin
    from penstock.source import serve as server
    from penstock.source.hostile import Hostility

    users = standin.captured_users(answer) if answer else standin.made_users
    people.fill_pools()
    hostility = Hostility(rate=hostile, seed=seed or secrets.token_hex(8))
    server.serve(standin.make_app(users, hostility), port or config.load().source_port, host)


@group.command()
def fetch(records: Records = 10, seed: UserSeed = "penstock", url: Url = "") -> None:
    """Print users as the API returns them, one JSON object per line."""
    import msgspec

    from penstock import config
    from penstock.source import HttpSource

    for users in HttpSource.configured(config.load(), url).fetch(records, seed):
        typer.echo(b"\n".join(map(msgspec.json.encode, users)))
