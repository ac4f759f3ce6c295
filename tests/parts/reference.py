"""Writes docs/reference: `make reference`."""

import tempfile
from pathlib import Path

from pgflow_events import EmbeddedServer, migrate_now

from . import reference_python, reference_sql
from .places import ROOT

FOLDER = ROOT / "docs" / "reference"


def main() -> None:
    """Write both pages; the examples in SQL run on a server of their own."""
    (FOLDER / "python.md").write_text(reference_python.page(), "utf-8")
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        migrate_now(server.dsn)
        (FOLDER / "sql.md").write_text(reference_sql.page(server.dsn), "utf-8")


if __name__ == "__main__":
    main()
