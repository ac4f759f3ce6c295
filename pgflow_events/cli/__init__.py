"""The command line, `pgflow-events`.

A command's module, with all that it needs, is imported when the command is called: `--help` and
the completion of the shell have no need of a terminal's colours or of a database.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from io import TextIOWrapper
from traceback import format_exception
from types import TracebackType
from typing import Any

import click

from pgflow_events.texts import printable

SUMMARIES = {
    "demo": "See the engine at work.",
    "migrate": "Bring the database to this release.",
    "worker": "Run the tasks of flows.",
    "start": "Start runs of a flow.",
    "runs": "List runs, the newest first.",
    "show": "Show a run with its steps.",
    "blob": "Look at stored values, and look after them.",
    "prune": "Delete old runs with all that belongs to them.",
    "doctor": "Check the database and say what is wrong.",
    "systemd-unit": "Write a unit that runs workers under systemd.",
    "bench": "Measure speed on your own database.",
}


class Commands(click.Group):
    """Commands that are imported when they are called.

    Args:
        place: Where they are: the name of a module, with {} for that of the command in it.
        summaries: What each of them does, in the order in which they are used.
        examples: Command lines for the help.
    """

    def __init__(
        self,
        *args: Any,
        place: str,
        summaries: Mapping[str, str],
        examples: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.place = place
        self.summaries = summaries
        self.examples = examples

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return list(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in self.summaries:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(self.place.format(name)), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command; what is wrong with the command line is told in one line."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = printable(error.message)  # final to type checkers
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


@click.command("pgflow-events", cls=Commands, place="pgflow_events.cli.{}", summaries=SUMMARIES)
@click.version_option(package_name="pgflow-events", message="%(prog)s %(version)s")
@click.option("--dsn", metavar="DSN", help="Where the database is; also after the command.")
def commands(*, dsn: str | None) -> None:
    """A workflow engine inside PostgreSQL.

    The database is named by --dsn, PGFLOW_DSN or libpq's variables (PGHOST, PGSERVICE, ...).
    Without any of them, an embedded PostgreSQL is started in the user's data folder.
    """


def main() -> None:
    """Run the command of the command line, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack some character
    sys.excepthook = print_traceback
    try:
        commands(prog_name="pgflow-events")
    except OSError as error:  # the file that takes the help may have no room
        reason = None if "--debug" in sys.argv else command_module().reason(error)
        if reason is None:
            raise
        click.echo(f"error: {reason}", err=True)
        sys.exit(1)


def command_module() -> Any:
    """The module that knows what errors mean. It takes long to import."""
    return import_module("pgflow_events.cli.command")


def print_traceback(
    kind: type[BaseException], error: BaseException, place: TracebackType | None
) -> None:
    """Print an error as Python does, with nothing in it that a terminal would obey."""
    text = "".join(format_exception(kind, error, place))
    sys.stderr.write(printable(text, keep="\n"))
