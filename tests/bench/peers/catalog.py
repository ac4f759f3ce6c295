"""The peers: how to run each, its settings, and when it has nothing left to do."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent

JOBS = frozenset({"wake", "drain", "payload", "small", "idle"})
STEPS = JOBS | {"chain"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run a peer.

    Attributes:
        options: Handed to the peer's own calls just as they stand here.
        jobs: How many single jobs are drained: what takes it about a second.
        poll: Seconds between its looks for work, where it is not woken.
        leaves_out: Scenarios that would take it minutes.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    jobs: int
    poll: float = 0
    leaves_out: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A project that is measured.

    Attributes:
        name: As on its registry.
        program: Its file in this folder.
        runtime: Whose environment it runs in.
        unfinished: SQL that tells whether something is still to be done; what failed is.
        settings: As shipped, and with the options its documentation names for speed.
        scenarios: What it can do.
        runs: How many runs of four steps wait to be drained.
    """

    name: str
    program: str
    runtime: Literal["own", "python", "node"]
    unfinished: str
    settings: Mapping[str, Setting]
    scenarios: frozenset[str] = JOBS
    runs: int = 0

    @property
    def version(self) -> str:
        """The version that is pinned."""
        if self.runtime == "own":
            return metadata.version(self.name)
        if self.runtime == "node":
            pinned = json.loads((HERE / "package.json").read_text())["dependencies"]
            return str(pinned[self.name])
        lines = self.requirements.read_text().splitlines()
        return next(line.partition("==")[2] for line in lines if line.startswith(f"{self.name}=="))

    @property
    def requirements(self) -> Path:
        """What pip installs for it."""
        return HERE / "requirements" / f"{self.program.removesuffix('_peer.py')}.txt"


PEERS = [
    Peer(
        name="pgflow-events",
        program="ours_peer.py",
        runtime="own",
        unfinished="select exists (select from pgflow.runs where status <> 'completed')",
        settings={
            "default": Setting(jobs=4000),
            "fastest": Setting(options={"slots": 200}, jobs=4000),
        },
        scenarios=STEPS,
        runs=1000,
    ),
    Peer(
        name="absurd-sdk",
        program="absurd_peer.py",
        runtime="python",
        unfinished="select exists (select from absurd.t_default where state <> 'completed')",
        settings={
            "default": Setting(jobs=300, poll=0.25),
            "fastest": Setting(
                options={"concurrency": 20, "poll_interval": 0.02}, jobs=1000, poll=0.02
            ),
        },
        scenarios=STEPS,
        runs=200,
    ),
    Peer(
        name="pgqueuer",
        program="pgqueuer_peer.py",
        runtime="python",
        unfinished="select exists (select from pgqueuer)",
        settings={
            "default": Setting(jobs=4000),
            "fastest": Setting(options={"batch_size": 100}, jobs=10_000),
        },
    ),
    Peer(
        name="graphile-worker",
        program="graphile_worker.mjs",
        runtime="node",
        unfinished="select exists (select from graphile_worker._private_jobs)",
        settings={
            "default": Setting(jobs=1000),
            "fastest": Setting(
                options={
                    "concurrentJobs": 24,
                    "maxPoolSize": 25,
                    "localQueue": {"size": 500},
                    "completeJobBatchDelay": 0,
                    "failJobBatchDelay": 0,
                },
                jobs=20_000,
            ),
        },
    ),
    Peer(
        name="pg-boss",
        program="pg_boss.mjs",
        runtime="node",
        unfinished="select exists (select from pgboss.job"
        " where state <> 'completed' and name in ('job', 'first', 'second'))",
        settings={
            "default": Setting(jobs=4, poll=2, leaves_out=frozenset({"small"})),
            "fastest": Setting(
                options={
                    "boss": {"useListenNotify": True},
                    "queue": {"notify": True},
                    "work": {"batchSize": 100, "burstWhenBatchFull": True},
                },
                jobs=10_000,
            ),
        },
    ),
    Peer(
        name="procrastinate",
        program="procrastinate_peer.py",
        runtime="python",
        unfinished="select exists (select from procrastinate_jobs where status <> 'succeeded')",
        settings={
            "default": Setting(jobs=500),
            "fastest": Setting(options={"concurrency": 20}, jobs=500),
        },
    ),
    Peer(
        name="dbos",
        program="dbos_peer.py",
        runtime="python",
        unfinished="select exists (select from dbos.workflow_status where status <> 'SUCCESS')",
        settings={
            "default": Setting(jobs=1000, poll=1),
            "fastest": Setting(options={"polling_interval_sec": 0.02}, jobs=1000, poll=0.02),
        },
        scenarios=STEPS,
        runs=100,
    ),
    Peer(
        name="chancy",
        program="chancy_peer.py",
        runtime="python",
        unfinished="select exists (select from chancy_jobs where state <> 'succeeded')"
        " or exists (select from chancy_workflows where state <> 'completed')",
        settings={
            "default": Setting(jobs=6, leaves_out=frozenset({"chain", "small"})),
            "fastest": Setting(
                options={
                    "queue": {
                        "executor": "chancy.executors.asyncex.AsyncExecutor",
                        "concurrency": 100,
                        "eager_polling": True,
                    },
                    "workflows": {"polling_interval": 1},
                },
                jobs=3000,
            ),
        },
        scenarios=STEPS,
        runs=50,
    ),
]
