"""Gets flows, and other things of the user's, from modules."""

import os
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pgflow_events.errors import SettingsError
from pgflow_events.flow import Flow


def load_flows(places: Iterable[str]) -> list[Flow[Any]]:
    """The flows at ``MODULE:FLOW``, or all of a ``MODULE``; each once.

    Raises:
        SettingsError: One of the places has none.
    """
    return list(dict.fromkeys(flow for place in places for flow in flows_at(place)))


def flows_at(place: str) -> list[Flow[Any]]:
    """The flow at ``MODULE:FLOW``, or all of a ``MODULE``."""
    found = vars(load_module(place)).values() if ":" not in place else [load_object(place)]
    flows = [flow for flow in found if isinstance(flow, Flow)]
    if not flows:
        raise SettingsError(f"there is no Flow at {place!r}")
    return flows


def load_factory(place: str) -> Callable[[], Any]:
    """The function at ``MODULE:NAME``.

    Raises:
        SettingsError: There is none.
    """
    factory: Callable[[], Any] = load_object(place)
    if not callable(factory):
        raise SettingsError(f"{place} is no function, but of type {type(factory).__name__}")
    return factory


def load_object(place: str) -> Any:
    """What ``MODULE:NAME`` names.

    Raises:
        SettingsError: It cannot be had.
    """
    module_name, _, name = place.partition(":")
    module = load_module(module_name)
    if not name:
        raise SettingsError(f"{place!r} names a module and nothing in it: say MODULE:NAME")
    try:
        return getattr(module, name)
    except AttributeError:
        near = get_close_matches(name, vars(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"module {module.__name__} has no {name!r}{hint}") from None


def load_module(name: str) -> ModuleType:
    """Import a module by its dotted name, or by the path of its file.

    As `python FILE` and `python -m MODULE` do, it first looks for further modules beside the
    file, or in the current folder.

    Raises:
        SettingsError: It cannot be imported.
    """
    if not name.strip() or "\0" in name:
        raise SettingsError(f"{name!r} is no module: give its dotted name, or the path of its file")
    path = Path(name).absolute() if name.endswith(".py") or os.sep in name else None
    if path and not path.is_file():
        raise SettingsError(f"there is no file {name}")
    folder = str(path.parent if path else Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = import_module(path.stem if path else name)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingsError(f"cannot import {name}: {what}") from error
    if path and not (module.__file__ and path.samefile(module.__file__)):
        raise SettingsError(
            f"{name} has the name of another module, {module.__file__}: call it something else"
        )
    return module
