"""Flows are found where the command line names them, and DSNs are refused without a quote."""

import sys

import pytest

from pgflow_events.cli.database import checked
from pgflow_events.cli.loading import load_factory, load_flows
from pgflow_events.errors import SettingsError

FLOWS = """
from pgflow_events import Flow
from neighbour_of_{0} import other
first, second = Flow("first"), Flow("second")
number = 1
"""

FAULTY = {
    "exits": "import sys\nsys.exit(0)",
    "says_bye": "raise SystemExit('bye')",
    "raises_base": "class Base(BaseException): pass\nraise Base('x')",
    "raises_mute": "class Mute(Exception):\n  def __str__(self): raise ValueError\nraise Mute",
    "raises_group": "raise ExceptionGroup('all', [ValueError('one'), KeyError('two')])",
    "raises_lines": "raise ValueError('one\\ntwo')",
    "relative": "from . import own",
    "defines": "from pgflow_events import Flow\n\nFlow('no slug')",
    "unclosed": "x = (",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "flows_in_a_file.py").write_text(FLOWS.format("file"))
    neighbour = 'from pgflow_events import Flow\nother = Flow("other")\n'
    (tmp_path / "neighbour_of_file.py").write_text(neighbour)
    (tmp_path / "json.py").write_text(neighbour)
    (tmp_path / "faulty_flows.py").write_text("1 / 0")
    (tmp_path / "dotted.flows.py").write_text(neighbour)
    (tmp_path / "notes.txt").write_text("")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from .flows import own")
    (package / "flows.py").write_text("from pgflow_events import Flow\nown = Flow('own')")
    for name, code in FAULTY.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    return tmp_path


def slugs(*places):
    return [flow.slug for flow in load_flows(map(str, places))]


def test_a_module_without_a_name_stands_for_all_its_flows_each_once(folder):
    path = folder / "flows_in_a_file.py"
    assert slugs(path) == ["other", "first", "second"]
    assert slugs(f"{path}:second", path) == ["second", "other", "first"]


def test_a_dotted_name_is_looked_for_in_the_current_folder(folder):
    assert slugs("flows_in_a_file:first") == ["first"]


def test_a_module_of_a_package_may_import_its_neighbours(folder):
    assert slugs("package") == slugs("package.flows:own") == ["own"]


def test_resources_come_from_a_function(folder):
    assert load_factory("flows_in_a_file:Flow").__name__ == "Flow"
    with pytest.raises(SettingsError, match="is of type int, not a function: name"):
        load_factory("flows_in_a_file:number")
    with pytest.raises(SettingsError, match="'flows_in_a_file' names only a module"):
        load_factory("flows_in_a_file")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere.py", "there is no file nowhere.py"),
        ("nowhere.flows", "cannot import nowhere.flows: ModuleNotFoundError"),
        ("", "'' is not a module: give a dotted name, or the path of a .py file"),
        (":first", "'' is not a module: give a dotted name"),
        ("flows_in_a_file:", "'flows_in_a_file:' names only a module: give MODULE:NAME"),
        ("flows_in_a_file:frist", "has no 'frist'; did you mean 'first'"),
        ("faulty_flows", "cannot import faulty_flows: ZeroDivisionError: division by zero"),
        ("flows_in_a_file:nothing", "module flows_in_a_file has no 'nothing'"),
        ("flows_in_a_file:number", "there is no Flow at 'flows_in_a_file:number'"),
        ("json.py", "json.py has the same name as another module, .*: rename the file"),
        (
            "exits.py",
            r"import exits.py: its code ends the program \(SystemExit: 0\) \(.*, line 2",
        ),
        ("says_bye", "cannot import says_bye: its code ends the program"),
        ("raises_base", r"cannot import raises_base: .*Base: x \(.*/raises_base.py, line 2\)"),
        ("raises_mute", r"cannot import raises_mute: .*Mute \(its text raised ValueError\)"),
        (
            "raises_group",
            r"all \(2 sub-exceptions\) \[ValueError: one; KeyError: 'two'\]",
        ),
        ("raises_lines", "cannot import raises_lines: ValueError: one two"),
        ("relative.py", "give the dotted name instead, as in package.module"),
        ("package/__init__.py", "give the dotted name instead"),
        ("defines", r"DefinitionError: flow 'no slug': .*\(.*/defines.py, line 3\)"),
        ("unclosed", r"SyntaxError: '\(' was never closed \(unclosed.py, line 1\)$"),
        ("package/", "package/ is a folder: give the path of a .py file"),
        ("package/flows", "there is no file package/flows; did you mean package/flows.py"),
        ("./notes.txt", "./notes.txt cannot be imported: rename it"),
        (
            "dotted.flows.py",
            "rename it, so that .py is the only dot in its name",
        ),
        (".", "'.' is not a module"),
        (".flows", "'.flows' is not a module"),
        ("package..flows", "'package..flows' is not a module"),
    ],
)
def test_a_place_without_flows_is_an_error_that_says_why(folder, place, message):
    with pytest.raises(SettingsError, match=message):
        load_flows([place])


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:hunter2",
        "postgresql//u:hunter2@h/d",
        "postgresql://u:hunter2/3@h/d",
        "postgresql://u:x@hunter2@h/d",
        "host=h password=not hunter2",
    ],
)
def test_a_dsn_that_cannot_be_understood_is_not_quoted(dsn):
    with pytest.raises(SettingsError, match="the DSN cannot be understood") as caught:
        checked(dsn)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    "dsn", ["", "postgresql://u:hunter2@h1:5432,h2:5433/d?sslmode=require", "host=@abstract"]
)
def test_other_dsns_are_taken_as_they_are(dsn):
    assert checked(dsn) == dsn
