"""Whatever the folder of an embedded server is called, and wherever it lies."""

import os
import pwd
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

from pgflow_events.cli.database import checked
from pgflow_events.embedded.folder import default_folder
from pgflow_events.embedded.server import EmbeddedServer
from pgflow_events.errors import EmbeddedError
from pgflow_events.postgres.connection import Connection

from ...parts.servers.embedding import RUN_A_SERVER, await_end, needs_root, query, run_as

NAMES = {
    "a space": "a b",
    "spaces around": " a ",
    "an apostrophe": "it's",
    "quotes": 'a "b"',
    "a percent sign": "100%",
    "an escape": "50%20off %s",
    "a backslash": "back\\slash",
    "a backslash at the end": "end\\",
    "a colon": "c:1",
    "a comma": "a,b",
    "an equals sign": "host=x",
    "the home of a domain account": "jane@corp",
    "the sign of an abstract socket": "@abstract",
    "what a shell would expand": "$HOME `id` ${x} * ? ~ ; & | < > ( )",
    "a dash": "-D",
    "a hash": "#1",
    "a tab": "a\tb",
    "a form feed, which ends a line for Python": "a\x0cb\rc\x85d\u2028e",
    "a bell": "a\ab",
    "accents": "ünïcödé",
    "another script": "日本語",
    "an emoji": "🐘",
    "bytes that are no text": os.fsdecode(b"\xff\xfe"),
    "more than a socket's path may have": "long" * 30,
    "almost as much as it may": "x" * 60,
    "everything at once": """a "b" 'c' = d, @e %20 \\ $f` é""",
}


async def connected(dsn: str) -> str:
    """The name of the database at this DSN, by a connection of ours."""
    async with await Connection.connect(checked(dsn)) as connection:
        cursor = await connection.execute("select current_database()")
        ((name,),) = await cursor.fetchall()
        return name


@pytest.fixture
def moved(base, made, request):
    """The server's folder, under a name that the test gives."""
    folder = made.rename(base / request.param)
    yield folder
    folder.rename(made)


@pytest.mark.parametrize("moved", NAMES.values(), ids=NAMES, indirect=True)
async def test_a_server_is_reached_whatever_its_folder_is_called(moved):
    with EmbeddedServer(moved) as server:
        assert await connected(server.dsn) == "pgflow"
        with EmbeddedServer(moved) as second:
            assert (second.attached, second.pid) == (True, server.pid)
            assert await connected(second.dsn) == "pgflow"


def test_a_cluster_is_made_in_a_folder_of_any_name(base):
    with EmbeddedServer(base / NAMES["everything at once"]) as server:
        assert query(server, "select 1") == 1


async def test_a_folder_may_be_given_as_text_and_from_where_one_stands(base, made, monkeypatch):
    monkeypatch.chdir(base)
    with EmbeddedServer(made.name) as server:
        assert server.folder == made
        assert await connected(server.dsn) == "pgflow"


async def test_a_link_leads_to_the_server_of_its_target(base, made, fresh):
    fresh.symlink_to(made)
    with EmbeddedServer(made) as server, EmbeddedServer(fresh) as by_link:
        assert by_link.pid == server.pid
        assert await connected(by_link.dsn) == "pgflow"
    other = fresh.with_name("elsewhere")
    (base / "deep/deeper").mkdir(parents=True)
    other.symlink_to(base / "deep/deeper")
    with EmbeddedServer(other / ".." / ".." / made.name) as server:
        assert server.folder == made


def test_a_link_to_nowhere_leads_to_a_new_folder(fresh):
    fresh.symlink_to(fresh.with_name(f"{fresh.name}-target"))
    with EmbeddedServer(fresh) as server:
        assert server.folder == fresh.readlink()


@pytest.mark.parametrize("kind", ["a link to itself", "a file", "below a file"])
def test_what_is_no_folder_is_named(fresh, kind):
    if kind == "a link to itself":
        fresh.symlink_to(fresh)
    else:
        fresh.write_text("")
    folder = fresh / "below" if kind == "below a file" else fresh
    with pytest.raises(EmbeddedError, match=fresh.name):
        EmbeddedServer(folder).start()


def test_a_line_break_is_refused(base):
    with pytest.raises(EmbeddedError, match="line break"):
        EmbeddedServer(base / "a\nb").start()
    assert not (base / "a\nb").exists()


@needs_root
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_one_may_not_write_to_is_named(base, fresh, there):
    fresh.mkdir()
    folder = fresh if there else fresh / "pgflow"
    nobody = pwd.getpwnam("nobody").pw_uid
    if there:
        os.chown(folder, nobody, -1)
    fresh.chmod(0o555)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run_as(nobody, RUN_A_SERVER, str(folder))
    said = failed.value.stderr.splitlines()[-1]
    assert f"Permission denied: '{folder}" in said
    assert "EmbeddedError" in said
    assert said.endswith("name another folder by PGFLOW_PG_FOLDER")


@pytest.mark.parametrize("variable", ["TMPDIR", "XDG_RUNTIME_DIR"])
@pytest.mark.parametrize("moved", ["a,b"], indirect=True)
def test_a_temporary_folder_that_no_socket_can_lie_in_is_passed_over(
    moved, base, fresh, monkeypatch, variable
):
    unfit = fresh / f"{'long' * 20},"
    unfit.mkdir(parents=True)
    monkeypatch.setenv(variable, str(unfit))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with EmbeddedServer(moved) as server:
        assert query(server, "select 1") == 1
        assert not any(unfit.iterdir())


@needs_root
@pytest.mark.parametrize("moved", ["a,b"], indirect=True)
def test_for_root_no_socket_lies_where_the_account_cannot_go(moved, fresh, monkeypatch):
    fresh.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(fresh))
    with EmbeddedServer(moved) as server:
        assert query(server, "select 1") == 1


@pytest.mark.parametrize("moved", ["a,b"], indirect=True)
async def test_a_server_with_its_socket_elsewhere_is_found_again_after_its_end(moved):
    with EmbeddedServer(moved) as server:
        dsn, pid = server.dsn, server.pid
        os.kill(pid, 9)
        await_end(pid)
        assert await connected(dsn) == "pgflow"
        assert server.dsn != dsn
        assert await connected(dsn) == "pgflow"
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(dsn)


def test_the_data_folder_of_a_user_is_an_absolute_path(monkeypatch):
    monkeypatch.delenv("PGFLOW_PG_FOLDER", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/jane@corp")
    assert default_folder(18).is_absolute()
    assert Path("/home/jane@corp") in default_folder(18).parents


@pytest.mark.parametrize("moved", ["a b", "long" * 30], indirect=True, ids=["short", "long"])
def test_a_copy_of_a_folder_in_use_has_a_server_of_its_own(moved, fresh):
    with EmbeddedServer(moved) as server:
        query(server, "create table mine ()")
        query(server, "checkpoint")
        subprocess.run(["cp", "-a", moved, fresh], check=True)
        with EmbeddedServer(fresh) as other:
            assert (other.attached, other.pid != server.pid) == (False, True)
            query(other, "drop table mine")
        assert query(server, "select to_regclass('mine')") == "mine"
        query(server, "drop table mine")


def test_a_folder_that_is_moved_while_it_is_used_keeps_its_server(made, fresh):
    with EmbeddedServer(made) as server:
        made.rename(fresh)
        try:
            with EmbeddedServer(fresh) as second:
                assert (second.attached, second.pid) == (True, server.pid)
                assert query(second, "select 1") == 1
        finally:
            fresh.rename(made)


@pytest.mark.parametrize(
    ("mark", "refusal"),
    [
        ("9.6\n", "was made by PostgreSQL 9.6, but .*by PGFLOW_PG_BIN, or name another folder"),
        ("", "holds no data of PostgreSQL: name another folder by PGFLOW_PG_FOLDER"),
        (None, "holds no data of PostgreSQL: name another folder by PGFLOW_PG_FOLDER"),
    ],
)
def test_data_that_is_not_ours_is_refused_and_left_alone(fresh, mark, refusal):
    (fresh / "data").mkdir(parents=True)
    if mark is not None:
        (fresh / "data/PG_VERSION").write_text(mark)
    before = sorted((fresh / "data").iterdir())
    with pytest.raises(EmbeddedError, match=f"{fresh}/data {refusal}"):
        EmbeddedServer(fresh).start()
    assert sorted((fresh / "data").iterdir()) == before
