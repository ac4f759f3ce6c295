"""Loads flows and factories from the user's modules."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pgflow_events.errors import SettingsError
from pgflow_events.flow.flow import Flow
from pgflow_events.handlers.failures import describe
from pgflow_events.handlers.tracebacks import is_calling

NOT_OF_THE_MODULE = ("<frozen ", importlib.__file__)  # files of the import machinery


def load_flows(places: Iterable[str]) -> list[Flow[Any]]:
    """Load the flows at each ``MODULE:FLOW`` or ``MODULE``, without duplicates.

    Raises:
        SettingsError: A place cannot be imported, or has no flow.
    """
    return list(dict.fromkeys(flow for place in places for flow in flows_at(place)))


def flows_at(place: str) -> list[Flow[Any]]:
    """Load the flow at ``MODULE:FLOW``, or all flows of a ``MODULE``."""
    found = vars(load_module(place)).values() if ":" not in place else [load_object(place)]
    flows = [flow for flow in found if isinstance(flow, Flow)]
    if not flows:
        raise SettingsError(f"there is no Flow at {place!r}: name a module or variable with one")
    return flows


def load_factory(place: str) -> Callable[[], Any]:
    """Load the function at ``MODULE:NAME``.

    Raises:
        SettingsError: It cannot be imported, or cannot be called.
    """
    factory: Callable[[], Any] = load_object(place)
    if not callable(factory):
        raise SettingsError(
            f"{place} is of type {type(factory).__name__}, not a function: name a function"
        )
    return factory


def load_object(place: str) -> Any:
    """Load the object at ``MODULE:NAME``.

    Raises:
        SettingsError: The module cannot be imported, or has no such name.
    """
    module_name, _, name = place.partition(":")
    module = load_module(module_name)
    if not name:
        raise SettingsError(f"{place!r} names only a module: give MODULE:NAME")
    try:
        return getattr(module, name)
    except AttributeError:
        near = get_close_matches(name, vars(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"module {module.__name__} has no {name!r}{hint}") from None


def load_module(name: str) -> ModuleType:
    """Import a module by its dotted name, or by the path of its file.

    The module can import its neighbours: the folder of the file, or otherwise the current folder,
    is put first on the path, as `python FILE` and `python -m MODULE` do.

    Raises:
        SettingsError: The module cannot be imported.
    """
    is_path = (name.endswith(".py") or os.sep in name) and "\0" not in name
    path = Path(name).absolute() if is_path else None
    if fault := file_fault(name, path) if path else name_fault(name):
        raise SettingsError(fault)
    folder = str(path.parent if path else Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = imported(path.stem if path else name, name)
    if path and not (module.__file__ and path.samefile(module.__file__)):
        raise SettingsError(
            f"{name} has the same name as another module, {module.__file__}: rename the file"
        )
    return module


def name_fault(name: str) -> str | None:
    """What is wrong with a dotted name, before any import."""
    if "\0" in name or not all(part.strip() for part in name.split(".")):
        return f"{name!r} is not a module: give a dotted name, or the path of a .py file"
    return None


def file_fault(name: str, path: Path) -> str | None:
    """What is wrong with the path of a module."""
    if path.is_dir():
        return f"{name} is a folder: give the path of a .py file, or a package's dotted name"
    if not path.is_file():
        near = f"; did you mean {name}.py?" if Path(f"{path}.py").is_file() else ""
        return f"there is no file {name}{near}"
    if path.suffix != ".py" or "." in path.stem:
        return f"{name} cannot be imported: rename it, so that .py is the only dot in its name"
    return None


def imported(module: str, name: str) -> ModuleType:
    """Import a module, and turn whatever its code raises into a SettingsError."""
    try:
        return import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise SettingsError(f"cannot import {name}: {import_fault(error)}") from error


def import_fault(error: BaseException) -> str:
    """What a module raised, and where, in one line."""
    text = " ".join(describe(error).split())
    if isinstance(error, SystemExit):
        text = f"its code ends the program ({text})"
    elif isinstance(error, ImportError) and "relative import" in text:
        text += "; give the dotted name instead, as in package.module"
    return f"{text}{place_of(error)}"


def place_of(error: BaseException) -> str:
    """The last line of the user's code in the traceback of an error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(NOT_OF_THE_MODULE) and not is_calling(f)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
