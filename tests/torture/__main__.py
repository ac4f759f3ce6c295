"""Torture the engine for some seconds, and prove that nothing is wrong; 1 if something is."""

import logging
import os
import sys
from collections.abc import Sequence
from secrets import randbelow

import click


@click.command()
@click.option("--seconds", type=float, default=600, help="How long things go wrong.")
@click.option("--seed", "seeds", type=int, multiple=True, help="By default one by chance.")
@click.option("--keep", is_flag=True, help="Keep the journals and logs in any case.")
@click.option("--workers", type=click.IntRange(5), default=5, show_default=True)
@click.option("--flows", type=click.IntRange(8), default=8, show_default=True)
def main(*, seconds: float, seeds: Sequence[int], keep: bool, workers: int, flows: int) -> None:
    """Torture the engine, with one seed after the other."""
    os.environ["TORTURE_FLOWS"] = str(flows)  # all processes import flows that depend on it
    from tests.torture.torturing import survives  # noqa: PLC0415 - it imports the flows

    for name in ("pgflow_events", "psycopg"):
        logging.getLogger(name).setLevel(logging.ERROR)  # connections are meant to break
    failed = [
        seed
        for seed in seeds or [randbelow(10**6)]
        if not survives(seed, seconds, workers, keep=keep)
    ]
    if failed:
        sys.exit(f"something is wrong, with seed {', '.join(map(str, failed))}")


if __name__ == "__main__":
    main()
