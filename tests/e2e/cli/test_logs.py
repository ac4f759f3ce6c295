"""The log of a worker whose flows configure logging for themselves."""

import json

from ..conftest import end

FLOWS = """
import logging, logging.config
from pgflow_events import Context, Flow

logging.config.dictConfig({"version": 1})
loud = Flow("loud", max_attempts=1)

@loud.step(loud.input, loud.context)
def fails(run: object, context: Context) -> str:
    logging.config.dictConfig({"version": 1})
    logging.disable(logging.CRITICAL)
    context.log.info("about to fail")
    raise ValueError("no luck") from KeyError("cause")
"""


def test_a_worker_goes_on_to_write_and_each_line_about_a_task_has_its_attempt(
    tmp_path, cli, worker
):
    file = tmp_path / "loud_flows.py"
    file.write_text(FLOWS)
    process = worker(str(file), "--log-format", "json")
    failed = cli("start", "loud", "--wait", "--json")
    assert failed.returncode == 1
    code, log = end(process)
    assert code == 0
    lines = {
        line["message"].partition(" in ")[0]: line for line in map(json.loads, log.splitlines())
    }
    run_id = json.loads(failed.stdout)["run_id"]
    attempt = {"flow": "loud", "run_id": run_id, "step": "fails", "attempt": 1}
    assert lines["about to fail"].items() >= attempt.items()
    told = lines[f"loud.fails of run {run_id} failed"]
    assert told.items() >= attempt.items()
    places = [line for line in told["traceback"].splitlines() if line.startswith("  File ")]
    assert [f'"{file}"' in place for place in places] == [True]
    assert told["traceback"].startswith("KeyError: 'cause'\n\nThe above exception was")
    assert "done: 1 failed" in lines
