"""From which file to which others a task goes: by an import, by a call, or as it is wired."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from .places import ROOT

WIRING = ROOT / "pgflow_events" / "worker" / "worker.py"


def hands_on(file: Path, following: Path) -> bool:
    """Whether a task that is in one file goes on in the other."""
    if file.suffix == ".py":
        return following in imported(file) | wired(file) or calls(file, following)
    return calls(file, following) or fires(file, following) or is_heard(file, following)


def calls(file: Path, function: Path) -> bool:
    """Whether SQL in one file, or in Python, calls the SQL function of another."""
    said = re.sub(r"--.*", "", file.read_text()) if file.suffix == ".sql" else file.read_text()
    written = function.stem.removeprefix("make_queue_")  # what it writes is called by another name
    return function.suffix == ".sql" and (
        f"pgflow.{function.stem}(" in said
        or (written != function.stem and f"'{written}_' || " in said)
    )


def fires(file: Path, trigger: Path) -> bool:
    """Whether a function inserts into the table of a trigger."""
    tables = re.findall(r"insert into (pgflow\.\w+)", file.read_text())
    return any(re.search(rf"after insert on {table}\b", trigger.read_text()) for table in tables)


def is_heard(file: Path, listening: Path) -> bool:
    """Whether what one file notifies is listened to in another."""
    topics = re.findall(r"pg_notify\(pgflow\.channel\('(\w+)s'", file.read_text())
    return any(f"{topic}_channels(" in listening.read_text() for topic in topics)


def imported(file: Path) -> set[Path]:
    """The files that have what a Python file imports."""
    return {found for _, found in names(file)}


def names(file: Path) -> Iterator[tuple[str, Path]]:
    """What a Python file imports from our packages, and the files that have it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if found := origin(ROOT / node.module.replace(".", "/"), alias.name):
                    yield alias.name, found


def origin(module: Path, name: str) -> Path | None:
    """The file that has a name of a module; of a package, the one from which that has it."""
    init = module / "__init__.py"
    for file in (module / f"{name}.py", module.with_suffix(".py")):
        if file.exists():
            return file
    return dict(names(init)).get(name, init) if init.exists() else None


def wired(file: Path) -> set[Path]:
    """The files whose methods the worker gives to the class that a file has."""
    tree, has = ast.parse(WIRING.read_text()), dict(names(WIRING))
    made: dict[str, Path] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and (made_by := class_of(node.value)) in has:
            made |= dict.fromkeys(own(node.targets[0]), has[made_by])
    methods = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    given = [
        attribute
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and has.get(class_of(node)) == file
        for attribute in own(node)
    ]
    given += [name for method in given if method in methods for name in own(methods[method])]
    return {made[attribute] for attribute in given if attribute in made}


def class_of(node: ast.AST) -> str:
    """What a call calls by its name."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def own(tree: ast.AST) -> list[str]:
    """The attributes of `self` that are named."""
    return [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ]
