"""What all commands have in common: their help, how they print, and how they fail."""

import errno
import os
import shutil
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import orjson
import psycopg

from blobstore import BlobError
from pgflow_events.errors import PgflowError
from pgflow_events.postgres.passing import STANDBY, is_read_only
from pgflow_events.texts import LONGEST, joined, plain_json, printable

INTERRUPTED = 130  # the exit code that shells give a command ended by SIGINT
# Errors of writing to stdout. Such an error does not name the file.
UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

# When our own statements raise these, the schema is not the one of this release.
OTHER_SCHEMA = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
)

# Which role may call a command, by its name; the owner of the schema may call all of them.
OWNERS = {"migrate", "cancel", "prune", "check", "train", "rotate"}
ROLES = {"worker": "pgflow_worker", "start": "pgflow_client", "show": "pgflow_client"}
ROLES |= {"cat": "pgflow_client", "export": "pgflow_client"}
ROLES |= {"runs": "pgflow_observer", "stat": "pgflow_observer", "doctor": "pgflow_observer"}

NAME_ANOTHER = (
    "give the DSN of the primary (with several hosts, `target_session_attrs=read-write` finds it)"
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def an_id(text: str) -> UUID:
    """Parse the id of a run or a blob: the `type=` of an argument."""
    try:
        return UUID(text.strip())
    except ValueError:
        whole = "give a whole id, such as 0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a"
        raise click.BadParameter(f"{printable(text)!r} is not an id: {whole}") from None


def program() -> str:
    """How the user can type this command here: by its name, its path, or as a module."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{nearby(Path(sys.executable))} -m pgflow_events"
    found = shutil.which(called.name)
    on_path = found and called.exists() and called.samefile(found)
    return called.name if on_path else nearby(called)


def nearby(path: Path) -> str:
    """A path as a shell in the current folder takes it for a command."""
    here = Path.cwd()
    near = str(path.relative_to(here) if path.is_relative_to(here) else path)
    return near if os.sep in near else f".{os.sep}{near}"


class Failure(click.ClickException):
    """An error that the user can understand. The exit code is 1."""

    def show(self, file: Any = None) -> None:
        """Write it to stderr."""
        click.echo(f"error: {printable(self.message)}", file, err=True)


class Command(click.Command):
    """A command that prints an error as one line, or with --debug as a traceback.

    Args:
        examples: Command lines for its help.
    """

    def __init__(self, *args: Any, examples: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.params.append(
            click.Option(["--debug"], is_flag=True, help="Show the traceback if an error occurs.")
        )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command's function."""
        debug = ctx.params.pop("debug")
        if ctx.find_root().params.get("dsn") and not any(p.name == "dsn" for p in self.params):
            raise click.UsageError(f"{self.name} uses no database: leave out --dsn", ctx)
        try:
            return super().invoke(ctx)
        except BaseException as error:
            if any(isinstance(cause, KeyboardInterrupt) for cause in causes(error)):
                ctx.exit(INTERRUPTED)
            if debug or not (message := reason(error)):
                raise
            raise Failure(message) from error


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error itself, or all members of a group."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for member in error.exceptions:
        yield from causes(member)


def reason(error: BaseException) -> str | None:
    """What went wrong, in one line. None if the error is a bug, which needs its traceback."""
    reasons = [one_reason(cause) for cause in causes(error)]
    return "; ".join(dict.fromkeys(filter(None, reasons))) if all(reasons) else None


def one_reason(error: BaseException) -> str | None:
    """The same for an error that is not a group."""
    if isinstance(error, UnicodeEncodeError):
        return f"{ascii(error.object)[:LONGEST]} cannot be encoded as UTF-8: give another text"
    if isinstance(error, OSError) and error.filename:
        return printable(f"{str(error.filename)[:LONGEST]}: {error.strerror}")
    if isinstance(error, OSError) and error.errno in UNWRITTEN:
        return f"the output could not be written: {error.strerror}"
    if isinstance(error, psycopg.Error):
        return _told_by_server(error)
    return _line(str(error), error) if isinstance(error, PgflowError | BlobError) else None


def _line(text: str, error: BaseException) -> str:
    return printable(joined(text)) or type(error).__name__


def _told_by_server(error: psycopg.Error) -> str:
    line = _line(error.diag.message_primary or str(error), error)
    if isinstance(error, OTHER_SCHEMA):
        return f"the database is not at this release ({line}): run `pgflow-events migrate`"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return f"{line}: {_who_may()}"
    if is_read_only(error):
        return f"{line}: {STANDBY}; {NAME_ANOTHER}"
    return line


def _who_may() -> str:
    """What to do about a right that the login lacks for this command."""
    context = click.get_current_context(silent=True)
    name = context.info_name if context else None
    if name in OWNERS:
        return "only the owner of the schema pgflow may do that: connect as the owner"
    role = ROLES.get(name or "", "the role that may do that (docs/operate/security.md)")
    return f"have the owner of the schema pgflow grant this login {role}"


def say(text: str, *, err: bool = False) -> None:
    """Print a text without control characters, on stdout or on stderr.

    If stderr cannot be written to, the notice is lost and the command goes on.
    """
    with suppress(OSError, ValueError) if err else nullcontext():
        click.echo(printable(text, keep="\n"), err=err)


def print_json(document: Any) -> None:
    """Print a JSON document. Bytes become `{"base64": "..."}`."""
    click.echo(json_text(document))


def json_text(document: Any) -> str:
    """The JSON document as a text. Control characters become JSON escapes."""
    return plain_json(orjson.dumps(document, as_base64, orjson.OPT_INDENT_2).decode())


def as_base64(value: Any) -> dict[str, str]:
    """Bytes as a JSON object, for orjson."""
    if not isinstance(value, bytes):
        raise TypeError
    return {"base64": b64encode(value).decode()}
