"""The command line, `pgflow-events`.

A command's module is imported when the command is called. So `--help` and shell completion import
neither rich nor psycopg.
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
    "migrate": "Create or upgrade the schema of the database.",
    "worker": "Run the tasks of flows.",
    "start": "Start runs of a flow.",
    "runs": "List runs, the newest first.",
    "show": "Show a run with its steps.",
    "cancel": "Cancel runs, and stop their handlers.",
    "blob": "Show, export, check and maintain stored values.",
    "prune": "Delete old runs, with their tasks, blobs and messages.",
    "doctor": "Check the database, and say how to mend what is wrong.",
    "systemd-unit": "Write a systemd unit that runs workers.",
    "bench": "Measure speed on your own database.",
}


class Commands(click.Group):
    """A group that imports the module of a command when the command is called.

    Args:
        place: The name of a command's module, with {} for the name of the command.
        summaries: What each command does, in the order in which people use them.
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
        """Call the command. Remove control characters from the error if the call is wrong."""
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
@click.option("--dsn", metavar="DSN", help="The database. May also follow the command.")
def commands(*, dsn: str | None) -> None:
    """A workflow engine inside PostgreSQL.

    --dsn, PGFLOW_DSN or libpq's variables (PGHOST, PGSERVICE, ...) name the database. Without
    any of them, commands start an embedded PostgreSQL in your data folder.
    """


def main() -> None:
    """Run the command of the command line, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may not have every character
    sys.excepthook = print_traceback
    try:
        commands(prog_name="pgflow-events")
    except OSError as error:  # the help goes to a file, and the disk is full
        reason = None if "--debug" in sys.argv else command_module().reason(error)
        if reason is None:
            raise
        command_module().say(f"error: {reason}", err=True)
        sys.exit(1)


def command_module() -> Any:
    """The module that puts errors into words. Its import is slow."""
    return import_module("pgflow_events.cli.command")


def print_traceback(
    kind: type[BaseException], error: BaseException, place: TracebackType | None
) -> None:
    """Print an error as Python does, but without control characters."""
    text = "".join(format_exception(kind, error, place))
    sys.stderr.write(printable(text, keep="\n"))
