"""What the comparison of two checkouts makes of its figures."""

import pytest
from rich.console import Console

from tests.bench.turns import compared, shares, table


@pytest.mark.parametrize(("workers", "of_each"), [(1, [1]), (3, [1, 1, 1]), (10, [3, 3, 2, 2])])
def test_workers_are_spread_over_a_few_processes(workers, of_each):
    assert shares(workers) == of_each


def test_the_ratio_is_that_of_the_calls_that_followed_each_other():
    (row,) = compared({"wake": [1.0, 10.0, 2.0]}, {"wake": [0.5, 5.0, 4.0]})
    assert row["old"] == {"p50": 2.0, "p99": 10.0}
    assert row["new"] == {"p50": 4.0, "p99": 5.0}
    assert row["ratio"] == 0.5


def test_a_line_has_both_sides_and_the_ratios():
    console = Console(width=110)
    with console.capture() as captured:
        console.print(table(compared({"wake, ms": [2.0]}, {"wake, ms": [1.0]})))
    line = next(line.split() for line in captured.get().splitlines() if "wake" in line)
    assert line == ["wake,", "ms", "2", "1", "0.50", "2", "1", "0.50", "0.5"]
