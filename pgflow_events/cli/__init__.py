"""The command line, `pgflow-events`.

A command's module, with all that it needs, is imported when the command is called: `--help` and
the completion of the shell have no need of a terminal's colours or of a database.
"""

import sys
from importlib import import_module
from io import TextIOWrapper

import click

SUMMARIES = {
    "demo": "See the engine at work.",
    "migrate": "Bring the database to this release.",
    "worker": "Run the tasks of flows.",
    "start": "Start runs of a flow.",
    "runs": "List runs, the newest first.",
    "show": "Show a run with its steps.",
    "doctor": "Check the database and say what is wrong.",
}


class Commands(click.Group):
    """The commands; each is in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order in which they are used."""
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in SUMMARIES:
            return None
        command: click.Command = getattr(import_module(f"pgflow_events.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.command("pgflow-events", cls=Commands)
@click.version_option(package_name="pgflow-events", message="%(prog)s %(version)s")
def commands() -> None:
    """A workflow engine inside PostgreSQL.

    The database is named by --dsn, PGFLOW_DSN or libpq's variables (PGHOST, PGSERVICE, ...).
    Without any of them, an embedded PostgreSQL is started in the user's data folder.
    """


def main() -> None:
    """Run the command of the command line, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack some character
    commands(prog_name="pgflow-events")
