"""Our own text, wherever it stands, and the turns of phrase that must be read twice.

.venv/bin/python -m tests.parts.words README.md docs/guide    # shows what is refused there
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .places import ROOT

# What is refused, and what to write in its place.
REFUSED = {
    r"(?:^|[.;:] )Who (?![^.?]*\?)": "name the actor: whoever, the worker that, the client that",
    r"\b(?:for|of|by|to|from|with|than) who\b": "whoever, or the actor",
    r"\bso many\b": "that many, or the number's name",
    r"\blest\b": "so that ... not",
    r"\banew\b": "again",
    r"\bof ours\b": "our ...",
    r"\b(?:is|are|was|were) none\b": "is not a ..., there is no ...",
    r"\b(?:tell|tells|told|telling) of\b": "reports, is told about",
    r"\b(?:would|must|will|may|might|could|can) else\b": "otherwise",
    r", else\b(?! if)": "otherwise",
    r"\bshall\b": "must, will, is to",
    r"\b(?:can|cannot|could) (?:not )?be had\b": "is (not) available, can(not) be got",
    r"\bbut for\b": "except",
    r"\bsave for\b": "except",
    r"\b(?:thereof|therein|thereby|whereof|hereby|henceforth|nought|aught)\b": "a plain word",
    r"\bone such\b": "one like it",
    r"\bsay(?:s)? so much\b": "a plain word",
    r"\ball that is there\b": "everything, all ...",
}
PATTERNS = {re.compile(pattern, re.MULTILINE): instead for pattern, instead in REFUSED.items()}

CODE = re.compile(r"``[^\n]*?``|`[^`\n]*`|\]\([^)\n]*\)")
BLOCK = re.compile(r"^```.*?^```|^ {4,}[^\n]*$|<!--.*?-->", re.MULTILINE | re.DOTALL)
TWO_SENTENCES = re.compile(r"[a-z0-9)`*\"][.!?][)\"*]* (?=[A-Z`*\[\"(])")
NUMBERED = re.compile(r"^\s*(?:\d+[.)]|[-*]) ")
ABBREVIATED = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|No)\. ")


class Hit(NamedTuple):
    """A turn of phrase that is refused."""

    place: str
    words: str
    instead: str

    def __str__(self) -> str:
        return f"{self.place}: “{self.words}”: {self.instead}"


def files(*patterns: str) -> list[Path]:
    """Those of these names that are, or may be, in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted({ROOT / name for name in listed.stdout.split() if (ROOT / name).exists()})


def with_text() -> list[Path]:
    """The files whose text people read: pages, the code and SQL that is shipped, the examples."""
    folders = ("pgflow_events", "blobstore", "examples")
    sql = [path for path in files("sql/*.sql") if "migrations" not in path.parts]
    return [*files("*.md"), *files(*(f"{folder}/*.py" for folder in folders)), *sql]


def blanked(match: re.Match[str]) -> str:
    """The lines of a match, without what is in them."""
    return re.sub(r"[^\n]", "·", match[0])


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of a file that people read, and the lines where they begin."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        yield 1, of_page(text)
    elif path.suffix == ".sql":
        for number, line in enumerate(text.splitlines(), 1):
            before, comment, said = line.partition("--")
            if comment and "'" not in before:
                yield number, CODE.sub(blanked, said)
    else:
        yield from of_python(text)


def of_page(text: str) -> str:
    """A page without its code."""
    return CODE.sub(blanked, BLOCK.sub(blanked, text))


def of_python(text: str) -> Iterator[tuple[int, str]]:
    """Comments, docstrings and what is said in messages."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], CODE.sub(blanked, token.string.lstrip("# "))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, CODE.sub(blanked, node.value)


def refused(path: Path) -> list[Hit]:
    """What of a file must be read twice."""
    found = []
    for first, text in prose(path):
        for pattern, instead in PATTERNS.items():
            for match in pattern.finditer(text):
                line = first + text[: match.start()].count("\n")
                place = f"{path.relative_to(ROOT)}:{line}"
                found.append(Hit(place, match[0].strip(" .;:"), instead))
    return found


def crowded(path: Path) -> list[Hit]:
    """Lines of a page with more than one sentence; tables and titles are no prose."""
    found = []
    for number, line in enumerate(of_page(path.read_text("utf-8")).splitlines(), 1):
        if line.lstrip().startswith(("|", "#")):
            continue
        if match := TWO_SENTENCES.search(NUMBERED.sub("", ABBREVIATED.sub("", line))):
            place = f"{path.relative_to(ROOT)}:{number}"
            found.append(Hit(place, line[match.start() : match.end() + 20], "one sentence a line"))
    return found


def main() -> None:
    """Show what is refused in the files and folders that are named."""
    named = [(ROOT / name).resolve() for name in sys.argv[1:]] or [ROOT]
    for path in with_text():
        if any(path.is_relative_to(folder) for folder in named):
            hits = refused(path) + (crowded(path) if path.suffix == ".md" else [])
            sys.stdout.writelines(f"{hit}\n" for hit in hits)


if __name__ == "__main__":
    main()
