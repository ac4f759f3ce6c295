"""Times in rows, which a worker may set to any that PostgreSQL has: Python has fewer."""


def sane(column: str) -> str:
    """SQL for a time, or the nearest one that Python has; null stays null."""
    bounds = "'0001-01-02 00:00+00'", "'9999-12-30 00:00+00'"
    nearest = f"least(greatest({column}, {bounds[0]}), {bounds[1]})"
    return f"case when {column} is not null then {nearest} end"
