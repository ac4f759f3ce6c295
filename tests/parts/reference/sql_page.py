"""docs/reference/sql.md: every public function, from the comments in sql/functions."""

import re
import subprocess
from collections.abc import Iterator

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..places import ROOT
from .docstrings import sentences
from .kinds import FUNCTIONS, KIND

INTRODUCTION = """# SQL reference

`make reference` writes this page from the comments in `sql/functions/`: edit those.
These functions are the public ones: any program may call them, and their signatures do not change.
Call them with the schema in front, as `pgflow.start_flow`.

The examples are for `psql`.
They run in the order of this page, on a database that `pgflow-events migrate` has made.

A role that may not call a function gets 42501 `insufficient_privilege`.
[security.md](../operate/security.md) says which role may call which.
"""

# In the order in which one learns them, which is that of the examples.
ORDER = [
    "create_flow",
    "add_step",
    "define_flow",
    "is_valid_slug",
    "start_flow",
    "start_flows",
    "cancel_runs",
    "poll_for_tasks",
    "complete_task",
    "fail_task",
    "calculate_retry_delay",
    "blob_json",
    "maybe_complete_run",
    "start_ready_steps",
    "cascade_resolve_conditions",
    "cascade_complete_taskless_steps",
    "_cascade_force_skip_steps",
    "start_flow_with_states",
    "get_run_with_states",
    "set_vt_batch",
    "start_tasks",
    "requeue_stalled_tasks",
    "setup_requeue_stalled_tasks_cron",
    "track_worker_function",
    "mark_worker_stopped",
    "is_local",
    "ensure_flow_compiled",
    "delete_flow_and_data",
]
ROWS = ["flows", "steps", "runs", "step_tasks", "step_task_record"]

PLACE = {"host", "port", "user", "password", "dbname"}

HEAD = re.compile(r"(--.*\n)*")
SIGNATURE = re.compile(r"create or replace (function (pgflow\.\w+\(.*?)\nlanguage)", re.DOTALL)
RAISED = re.compile(r"  (\w{5}) (\w+): (.*(?:\n    .*)*)")


def parts(name: str) -> list[str]:
    """The paragraphs of the comment of a function, without its kind."""
    head = re.sub(r"(?m)^-- ?", "", HEAD.match(FUNCTIONS[name])[0])
    kind = KIND.match(f"-- {head}")[0].removeprefix("-- ")
    return head.removeprefix(kind).rstrip("\n").split("\n\n")


def section(name: str, title: str) -> str:
    """The lines below a title in the comment of a function."""
    first = f"{title}:\n"
    return next((text[len(first) :] for text in parts(name) if text.startswith(first)), "")


def raised(name: str) -> list[tuple[str, str, str]]:
    """What a function raises: SQLSTATE, the condition's name, and when."""
    return RAISED.findall(section(name, "Raises"))


def example(name: str) -> str:
    """What to type in psql to try a function."""
    return re.sub(r"(?m)^  ", "", section(name, "Example"))


def signature(name: str) -> str:
    """How a function is called, and what it returns."""
    return SIGNATURE.search(FUNCTIONS[name])[2]


def output(dsn: str, name: str) -> str:
    """What psql prints when the example of a function is typed."""
    # An older psql does not know all that a newer libpq has written down.
    known = {key: text for key, text in conninfo_to_dict(dsn).items() if key in PLACE}
    ran = subprocess.run(
        ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", make_conninfo("", **known)],
        input=example(name),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if ran.returncode or ran.stderr:
        raise RuntimeError(f"the example of {name}: {ran.stderr}")
    return "\n".join(line.rstrip() for line in ran.stdout.rstrip().splitlines())


def page(dsn: str) -> str:
    """The page; its examples run in this database."""
    blocks = [INTRODUCTION.rstrip()]
    for name in ORDER:
        blocks += function(name, output(dsn, name))
    blocks += ["## Rows", "The columns of the rows that these functions return, by name.", rows()]
    return "\n\n".join(blocks) + "\n"


def function(name: str, printed: str) -> Iterator[str]:
    """What is said of a function."""
    yield f"## {name}"
    yield f"```sql\n{signature(name)}\n```"
    for text in parts(name):
        if not text.startswith(("Raises:", "Example:")):
            yield sentences(text)
    if errors := raised(name):
        lines = [
            f"| {state} | `{condition}` | {' '.join(when.split()).removesuffix('.')} |"
            for state, condition, when in errors
        ]
        yield "\n".join(["| SQLSTATE | condition | raised if |", "|---|---|---|", *lines])
    yield f"```sql\n{example(name)}\n```"
    yield f"```text\n{printed}\n```"


def rows() -> str:
    """The columns of the rows that these functions return."""
    found: dict[str, list[str]] = {relation: [] for relation in ROWS}
    for line in (ROOT / "sql" / "SHAPE").read_text("utf-8").splitlines():
        kind, relation, name, _, _, definition, *_ = line.split("\t")
        if kind != "constraint" and relation in found:
            found[relation].append(f"`{name} {definition}`")
    return "\n".join(f"- `pgflow.{relation}`: {', '.join(found[relation])}" for relation in ROWS)
