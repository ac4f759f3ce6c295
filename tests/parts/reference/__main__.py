"""Writes docs/reference: `make reference`."""

import tempfile
from pathlib import Path

from pgflow_events import EmbeddedServer, migrate_now

from ..places import REFERENCE
from . import python_page, sql_page


def main() -> None:
    """Write both pages; the examples in SQL run on a server of their own."""
    (REFERENCE / "python.md").write_text(python_page.page(), "utf-8")
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        migrate_now(server.dsn)
        (REFERENCE / "sql.md").write_text(sql_page.page(server.dsn), "utf-8")


if __name__ == "__main__":
    main()
