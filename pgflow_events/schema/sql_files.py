"""The SQL that this package carries, and which release of it that is."""

import hashlib
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SqlFile:
    """A file of the folder `sql`."""

    path: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Release:
    """Which SQL a package carries, or a database has."""

    number: int
    """It grows with each change of the folder `sql`: versions stay while a release is made."""
    version: str
    """Of the package."""

    def __str__(self) -> str:
        """Say it in a message."""
        return f"pgflow-events {self.version}, SQL {self.number}"


def this_release() -> Release:
    """The release of this package."""
    number, _ = (sql_folder() / "RELEASE").read_text("utf-8").split()
    return Release(int(number), version("pgflow-events"))


def sql_folder() -> Path:
    """The folder of the SQL files, in a wheel or in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "sql"
    return packaged if packaged.is_dir() else package.parent / "sql"


def sql_files(kind: str) -> list[SqlFile]:
    """The files of such a folder (`migrations`, `functions`, ...), in order of their names.

    The rooms in which they stand are for readers: a database knows a file by its kind and name.
    """
    paths = sorted((sql_folder() / kind).rglob("*.sql"), key=lambda path: path.name)
    return [SqlFile(f"{kind}/{path.name}", path.read_text("utf-8")) for path in paths]


def needed_by(file: SqlFile) -> list[SqlFile]:
    """The functions that a migration needs for its tables."""
    functions = {function.path: function for function in sql_files("functions")}
    needed = re.findall(r"^-- needs (\S+)$", file.text, re.MULTILINE)
    return [functions[path] for path in needed]
