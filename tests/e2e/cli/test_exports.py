"""What `pgflow-events blob export` and `blob cat --output` leave on a disk."""

import json
import os
import stat

import pytest
import trio

from pgflow_events.core.flows import define_flow
from pgflow_events.flow.flow import Flow
from pgflow_events.postgres.connection import Connection

from ...parts.storing import blobs_on, complete, start

taken = Flow("taken")


@taken.step(taken.input)
def manifest(run: object) -> object:
    return run


@pytest.fixture
def run_id(database: str) -> str:
    """A run whose step has the name of the manifest."""

    async def make() -> str:
        async with await Connection.connect(database) as connection:
            await define_flow(connection, taken.definition())
            found = await start(connection, blobs_on(connection), "taken", {"url": "x"})
            await complete(connection, blobs_on(connection), "taken", {"mine": 1})
            return str(found)

    return trio.run(make)


def test_no_step_can_take_the_name_of_the_manifest(run_id, cli, tmp_path):
    answer = cli("blob", "export", run_id, str(tmp_path / "out"))
    assert (answer.returncode, answer.stderr) == (0, "")
    values = json.loads((tmp_path / "out" / "manifest.json").read_text())["values"]
    assert [value["file"] for value in values] == ["run.json", "manifest-0.json"]
    assert json.loads((tmp_path / "out" / "manifest-0.json").read_text()) == {"mine": 1}


def test_what_is_exported_can_be_read_by_nobody_else(run_id, cli, tmp_path):
    before = os.umask(0)
    try:
        assert cli("blob", "export", run_id, str(tmp_path / "out")).returncode == 0
        file = tmp_path / "file"
        assert cli("blob", "cat", run_id, "manifest", "--output", str(file)).returncode == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes.pop("out") == 0o700
    assert set(modes) == {"run.json", "manifest-0.json", "manifest.json", "file"}
    assert set(modes.values()) == {0o600}


def test_a_folder_where_others_may_write_gets_nothing(run_id, cli, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    folders = [tmp_path / "open"]
    if os.geteuid() == 0:
        (tmp_path / "theirs").mkdir()
        os.chown(tmp_path / "theirs", 65534, -1)
        folders.append(tmp_path / "theirs")
    for folder in folders:
        answer = cli("blob", "export", run_id, str(folder))
        assert answer.returncode == 1
        assert answer.stderr.startswith(f"error: {folder} belongs to others")
        assert not [*folder.iterdir()]


def test_no_link_is_followed(run_id, cli, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    answer = cli("blob", "cat", run_id, "manifest", "--output", str(tmp_path / "link"))
    assert answer.returncode == 1
    assert not (tmp_path / "elsewhere").exists()
