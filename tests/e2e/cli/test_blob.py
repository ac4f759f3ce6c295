"""The commands `pgflow-events blob ...`, as their users see them."""

import json
import os
import random
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import click
import pytest
import trio

from blobstore.keys import KeyRing
from blobstore.objects import ObjectStore
from pgflow_events.cli.blob import SUMMARIES, blob
from pgflow_events.core.flows import define_flow
from pgflow_events.flow.flow import Flow
from pgflow_events.postgres.connection import Connection

from ...parts.storing import blobs_on, complete, start, store
from ..conftest import COMMAND
from ..terminal import at_terminal

ROOT = Path(__file__).parents[3]
ABSENT = "0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a"
PAGE = "".join(f"<p id='p{n}'>Ärger im Büro {n * n}</p>\n" for n in range(200_000))
DAY = 86_400

site = Flow("site", blob_threshold=1024)


@site.step(site.input)
def page(run: object) -> str:
    return ""


Put = Callable[..., list[UUID]]


@pytest.fixture
def put(database: str) -> Put:
    """Stores outputs of runs of one step each; the ids of the blobs."""

    async def store_all(values: list[Any], options: dict[str, Any]) -> list[Any]:
        async with await Connection.connect(database) as connection:
            await define_flow(connection, site.definition())
            blobs = blobs_on(connection, **options)
            return [await store(connection, blobs, "site", value) for value in values]

    return lambda *values, **options: trio.run(store_all, list(values), options)


def command(name: str) -> click.Command:
    found = blob.get_command(click.Context(blob), name)
    assert found
    return found


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_list_of_commands_says_of_each_what_its_help_says(name):
    assert command(name).get_short_help_str(80) == SUMMARIES[name]


def examples(text: str) -> list[str]:
    return re.findall(r"^ +(?:\$ )?pgflow-events blob ([a-z].*)$", text, re.MULTILINE)


def call(line: str) -> str:
    """Parse a command line; the name of its command."""
    name, *arguments = shlex.split(re.split(r" [|>]", line)[0])
    command(name).make_context(name, arguments)
    return name


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_examples_in_the_help_can_be_called(name):
    shown = examples(command(name).get_help(click.Context(command(name))))
    assert shown
    assert {call(line) for line in shown} == {name}


def test_the_examples_in_the_help_of_the_group_can_be_called():
    assert [call(line) for line in examples(blob.get_help(click.Context(blob)))]


def test_the_examples_in_the_docs_can_be_called():
    lines = examples((ROOT / "docs" / "guide" / "cli.md").read_text())
    assert {call(line) for line in lines} == {*SUMMARIES} - {"check"}


def test_a_reader_may_leave_and_another_gets_all_of_it(put, environment, cli, tmp_path):
    (blob_id,) = put(PAGE)
    line = f"set -o pipefail; {shlex.join(COMMAND)} blob cat {blob_id}"
    part = subprocess.run(
        ["bash", "-c", f"{line} | head -c 10"], env=environment, capture_output=True, check=False
    )
    assert (part.returncode, part.stdout, part.stderr) == (0, PAGE[:10].encode(), b"")
    whole = subprocess.run(
        [*COMMAND, "blob", "cat", str(blob_id)], env=environment, stdout=subprocess.PIPE, check=True
    )
    assert whole.stdout == PAGE.encode()

    file = tmp_path / "page"
    assert cli("blob", "cat", str(blob_id), "--output", str(file)).returncode == 0
    assert file.read_text() == PAGE
    refused = cli("blob", "cat", str(blob_id), "--output", str(file))
    assert (refused.returncode, refused.stderr) == (1, f"error: {file}: File exists\n")


def test_a_value_that_is_not_there_or_damaged_is_an_error(put, cli, database, tmp_path):
    assert cli("blob", "cat", ABSENT).stderr == f"error: there is no blob {ABSENT}\n"
    (blob_id,) = put("x" * 10_000, chunk_size=1000)

    async def damage() -> None:
        async with await Connection.connect(database) as connection:
            await connection.execute("update pgflow.output_blobs set sha256 = sha256('')")

    trio.run(damage)
    answer = cli("blob", "cat", str(blob_id), "--output", str(tmp_path / "x"))
    assert answer.returncode == 1
    assert "not those that were written" in answer.stderr
    assert not (tmp_path / "x").exists()


def test_a_terminal_gets_nothing_that_it_would_obey(put, environment, forker):
    # At each border of two chunks lies a character: C1, an order of words, an end of a line.
    texts = ["plain " * 2000, "a\x9b" * 9999, "a\u202e" * 9999, "a" + "\r\n" * 9999, "\r" * 9999]
    harmless, c1, bidi, ends, returns = put(*texts, chunk_size=1000)
    escapes, image, null = put(b"\x1b[31m" * 2000, b"\x89PNG" * 2000, b"\0" * 9000)

    def on_terminal(*arguments: object) -> tuple[int, str]:
        shown = at_terminal(["blob", "cat", *map(str, arguments)], environment, forker)
        return shown[:2]

    assert on_terminal(harmless) == (0, texts[0])
    assert on_terminal(c1) == (0, "a�" * 9999)
    assert on_terminal(bidi) == (0, "a�" * 9999)
    assert on_terminal(ends) == (0, "a" + "\n" * 9999)
    assert on_terminal(returns) == (0, "�" * 9999)
    assert on_terminal(escapes) == (0, "�[31m" * 2000)
    assert on_terminal(image) == on_terminal(null) == (1, "")
    assert on_terminal(escapes, "--force") == (0, "\x1b[31m" * 2000)
    told = at_terminal(["blob", "cat", str(escapes)], environment).errors
    assert told.startswith("control characters and the like were replaced: for the bytes")


def test_a_run_is_exported_with_a_manifest(cli, database, tmp_path):
    async def make() -> UUID:
        async with await Connection.connect(database) as connection:
            await define_flow(connection, site.definition())
            run_id = await start(connection, blobs_on(connection), "site", {"url": "x"})
            await complete(
                connection, blobs_on(connection), "site", ["<p>" * 5000, b"\xff", "small"],
                by_element=True, media_type="text/html",
            )  # fmt: skip
            return run_id

    run_id = trio.run(make)
    folder = tmp_path / "run"
    assert cli("blob", "export", str(run_id), str(folder)).stdout == f"4 values in {folder}\n"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["run_id"], manifest["status"]) == (str(run_id), "completed")
    files = {value["file"]: value["size"] for value in manifest["values"] if value["file"]}
    assert files == {"run.json": 12, "page.0.html": 15000, "page.1.html": 1, "page.2.txt": 5}
    assert {file.name: file.stat().st_size for file in folder.iterdir()}.items() >= files.items()

    refused = cli("blob", "export", str(run_id), str(folder))
    assert (refused.returncode, refused.stderr) == (1, f"error: {folder}: Directory not empty\n")


def article(n: int) -> str:
    words = random.Random(n)
    text = " ".join(words.choices(["on", "the", "road", "again", "never", "home"], k=250))
    links = "".join(f'<li class="nav-item"><a href="/section/{k}">{k}</a></li>' for k in range(9))
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{n}</title>'
        f'<link rel="stylesheet" href="/assets/site.css"></head><body class="article">'
        f'<nav aria-label="breadcrumbs"><ul>{links}</ul></nav><h1>{n}</h1><p>{text}</p>'
        f'<footer class="footer"><a href="/imprint">Imprint</a></footer></body></html>'
    )


def test_a_dictionary_is_trained_and_judged_by_what_it_has_not_seen(put, cli):
    put(*(article(n) for n in range(200)), threshold=1024)
    tried = json.loads(cli("blob", "train", "site", "page", "--dry-run", "--json").stdout)
    assert (tried["samples"], tried["held_out"], tried["dictionary_id"]) == (150, 50, None)
    assert tried["dictionary_ratio"] > 1.3 * tried["plain_ratio"]

    told = cli("blob", "train", "site", "page", "--size", "8192").stdout.splitlines()
    assert told[0].startswith('dictionary 1 for step "page" of flow "site": ')
    assert re.fullmatch(r"ratio of 50 others: [\d.]+ without it, [\d.]+ with it", told[1])


def test_after_a_rotation_the_old_key_is_needed_no_more(put, cli, tmp_path):
    old, new = KeyRing.new_line("old"), cli("blob", "key", "new").stdout
    for name, lines in {"old": old, "both": f"{new}{old}", "new": new}.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(lines)
    (blob_id,) = put("sealed", keys=KeyRing.from_file(tmp_path / "old"))

    lacking = cli("blob", "rotate", "--keys", str(tmp_path / "new"))
    assert (lacking.returncode, lacking.stdout) == (1, "0 blobs moved to key new\n")
    assert lacking.stderr.startswith("error: blobs are left: 1 with old: add the key")
    rotated = cli("blob", "rotate", "--keys", str(tmp_path / "both"), "--json")
    assert json.loads(rotated.stdout) == {"key": "new", "rotated": 1, "left": {}, "damaged": []}
    assert cli("blob", "cat", str(blob_id), "--keys", str(tmp_path / "new")).stdout == "sealed"
    unread = cli("blob", "cat", str(blob_id), "--keys", str(tmp_path / "old"))
    assert unread.stderr == "error: the key ring of this process has no key 'new'\n"


def test_what_is_in_clear_is_refused_if_only_what_is_sealed_is_to_be_read(put, cli, tmp_path):
    file = tmp_path / "keys"
    file.touch(mode=0o600)
    file.write_text(KeyRing.new_line("one"))
    (sealed,) = put("sealed", keys=KeyRing.from_file(file))
    (clear,) = put("in clear" * 10_000)
    only = ("--keys", str(file), "--sealed-only", "2020-01-01")
    assert cli("blob", "cat", str(sealed), *only).stdout == "sealed"
    refused = cli("blob", "cat", str(clear), *only)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.endswith(
        "is not encrypted, and this process accepts only sealed values\n"
    )
    lacking = cli("blob", "cat", str(clear), "--sealed-only", "2020-01-01")
    assert lacking.stderr.startswith("error: sealed_only needs keys")


def test_a_sweep_deletes_on_demand_and_not_with_a_strange_database(put, cli, tmp_path):
    objects = ObjectStore.from_url(tmp_path.as_uri())
    trio.run(objects.put, uuid4(), 0, b"orphan")
    before = time.time() - 2 * DAY
    sweep = ("blob", "sweep", "--objects", tmp_path.as_uri())

    def chunks() -> list[Path]:
        return [file for file in tmp_path.rglob("*") if file.is_file()]

    for file in chunks():
        os.utime(file, (before, before))
    strange = cli(*sweep, "--delete")
    assert strange.returncode == 1
    assert strange.stderr.startswith("WARNING: found 1 blob, and none of them has a row")
    assert "nothing was deleted" in strange.stderr

    put("x" * 9000, objects=objects, object_threshold=1000)
    for file in chunks():
        os.utime(file, (before, before))
    tried = json.loads(cli(*sweep, "--json").stdout)
    assert tried.items() >= {"kept": 1, "removed": 1, "deleted": False}.items()
    assert len(chunks()) == 2
    done = cli(*sweep, "--grace", "1h", "--delete")
    assert done.stdout.splitlines()[1] == "deleted 1 blob: 1 object, 6 bytes"
    assert len(chunks()) == 1


def test_the_inventory_shows_sizes_around_the_threshold_and_no_payload(put, cli):
    put("secret" * 100, "secret" * 300, "secret" * 300, threshold=1024)
    shown = cli("blob", "stat", "--flow", "site", "--step", "page").stdout
    assert "secret" not in shown
    rows = [line.split() for line in shown.splitlines()]
    assert rows[1][:4] == ["site", "page", "1", "2"]
    sizes = {row[0]: row for row in rows[4:]}
    assert [(name, row[1], row[2], row[-1]) for name, row in sizes.items()] == [
        ("1KiB", "1", "0", "2"), ("2KiB", "0", "2", "0")
    ]  # fmt: skip
    (step,) = json.loads(cli("blob", "stat", "--step", "page", "--json").stdout)
    assert step.items() >= {"threshold": 1024, "copies": 1, "keys": {}}.items()


def test_the_help_of_the_group_imports_nothing_of_its_commands(environment):
    program = (
        "import sys\n"
        "from pgflow_events.cli import main\n"
        "try: main()\n"
        "except SystemExit: sys.exit(f'rich: {\"rich\" in sys.modules}')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, "blob", "--help"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.stderr == "rich: False\n"
    assert all(f"  {name} " in answer.stdout for name in SUMMARIES)
