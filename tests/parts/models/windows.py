"""Small windows of maps, so that a short list is queued in several of them."""

from .core import Core

WINDOW, LOW = 4, 2
"""How many tasks of a map are queued at most; how many are left when the next ones follow."""

SIZES = {"1000": str(WINDOW), "500": str(LOW)}
WHERE = ("start_steps", "fill_windows", "advance_runs")


def make_windows_small(core: Core) -> None:
    """Let a map have few tasks in its queue, by other numbers in the functions that have them."""
    for name in WHERE:
        source = core.value("select pg_get_functiondef(%s::regproc)", f"pgflow.{name}")
        assert any(number in source for number in SIZES)
        for number, small in SIZES.items():
            source = source.replace(number, small)
        core.db.execute(source)
