"""`pgflow-events doctor`."""

from collections.abc import Sequence

import click
import trio
from rich.table import Table
from rich.text import Text

from pgflow_events.cli.command import Command, json_option, print_json
from pgflow_events.cli.database import checked, database, dsn_option, listen_dsn_option
from pgflow_events.cli.doctor.checks import Finding, examine
from pgflow_events.terminal.console import output_console, print_whole
from pgflow_events.texts import printable

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


@click.command(
    cls=Command,
    examples=("pgflow-events doctor", "pgflow-events doctor --json"),
)
@dsn_option
@listen_dsn_option
@json_option
def doctor(dsn: str | None, listen_dsn: str | None, as_json: bool) -> None:
    """Check the database, and say how to mend what is wrong.

    The exit code is 1 if a check fails. It is 0 if there are only warnings, such as tasks without
    a worker, or a transaction that blocks vacuum.
    """
    with database(dsn) as found:
        findings = trio.run(examine, found, checked(listen_dsn) if listen_dsn else found)
    failed = any(finding.status == "failed" for finding in findings)
    if as_json:
        print_json({"ok": not failed, "checks": findings})
    else:
        print_whole(output_console(), findings_table(findings))
    click.get_current_context().exit(int(failed))


def findings_table(findings: Sequence[Finding]) -> Table:
    """A table with a marked row for each finding."""
    table = Table.grid(padding=(0, 1))
    for finding in findings:
        table.add_row(Text(*MARKS[finding.status]), finding.check, Text(printable(finding.found)))
    return table
