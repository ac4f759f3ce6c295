"""The number of the SQL, which lets older packages know that a database is newer than they are."""

import hashlib
import os

from pgflow_events.schema.sql_files import sql_files, sql_folder, this_release

FILE = sql_folder() / "RELEASE"
KINDS = ("migrations", "functions", "triggers", "roles")
UPDATE = "PGFLOW_UPDATE_RELEASE=1 .venv/bin/pytest tests/unit/schema/test_release.py"


def digest() -> str:
    files = [file for kind in KINDS for file in sql_files(kind)]
    lines = "".join(f"{file.checksum} {file.path}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def test_its_number_was_raised_with_the_last_change():
    if "PGFLOW_UPDATE_RELEASE" in os.environ and digest() not in FILE.read_text():
        FILE.write_text(f"{this_release().number + 1} {digest()}\n")
    assert digest() in FILE.read_text(), f"sql/ has changed: run `{UPDATE}`, and commit sql/RELEASE"


def test_all_that_is_in_the_folder_counts():
    assert {path.name for path in sql_folder().iterdir()} == {
        *KINDS,
        "RELEASE",
        "README.md",
        "SHAPE",
    }
