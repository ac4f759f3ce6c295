"""Commands whose standard input, output or error is closed, or a file on a disk that is full."""

import shlex
import subprocess

import psycopg
import pytest

from ..conftest import COMMAND

FULL = "error: the output could not be written: No space left on device\n"


@pytest.fixture
def shell(environment):
    """Runs a command with its streams as a shell redirects them."""

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            f"{shlex.join(COMMAND)} {line}",
            shell=True,
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    "command",
    [
        *("runs", "runs --json", "blob key new", "doctor", "blob check"),
        *("--help", "--version", "start --help", "blob --help", "blob stat --help"),
    ],
)
def test_a_full_disk_is_told_in_one_line(shell, command):
    answer = shell(f"{command} > /dev/full")
    assert (answer.returncode, answer.stderr) == (1, FULL)


def test_a_notice_that_cannot_be_written_does_not_keep_a_run_from_its_end(shell, cli, worker):
    worker()
    answer = shell("start pages --wait 2> /dev/full")
    assert (answer.returncode, answer.stdout) == (
        0,
        '{\n  "check": {\n    "title": "<p>long"\n  }\n}\n',
    )


def test_an_input_from_a_closed_stdin_is_told_in_one_line(shell):
    answer = shell("start nope - <&-")
    assert answer.returncode == 2
    assert answer.stderr.endswith("the standard input is closed: give the JSON itself, or @FILE\n")
    assert "Traceback" not in answer.stderr


def test_a_value_for_a_closed_stdout_is_told_in_one_line(shell, database):
    with psycopg.connect(database) as connection:
        connection.execute("select pgflow.create_flow('f'), pgflow.add_step('f', 'step')")
        ((run_id,),) = connection.execute("select run_id from pgflow.start_flow('f', '5')")
    answer = shell(f"blob cat {run_id} run >&-")
    assert answer.returncode == 1
    assert answer.stderr == "error: the standard output is closed: name a file with --output\n"
