"""How a run has to end, worked out from its input alone."""

from dataclasses import dataclass
from typing import Any

from tests.torture.behaviour import Given
from tests.torture.flows import SMALL, file_of, flow_of, page_of, sha256
from tests.torture.map_flows import output_of_maps, output_of_skips


@dataclass(frozen=True, slots=True)
class Ending:
    """The only right end of a run, or two of them."""

    flow_slug: str
    statuses: list[str]
    output: dict[str, Any] | None
    """Without what is a blob."""
    failing: str | None
    """The step in which it fails, if it does."""


def ending(given: Given) -> Ending:
    """How the run of this input has to end."""
    return ending_of(flow_of(given).slug, given)


def ending_of(slug: str, given: Given) -> Ending:
    """How it has to end in this flow."""
    n = given["n"]
    match slug:
        case "torture_plain":
            output = {"double": 2 * (n + 1)}
        case "torture_fan":
            output = {"total": 7 * n * n + 42 * n + 91}
        case "torture_chain":
            output = {"third": f"{3 * n + 1}!"}
        case "torture_pages":
            text = page_of(given)
            digest = sha256(text.encode())
            output = {"summary": {"sha256": digest, "whole": True, "length": len(text)}}
        case "torture_files":
            output = {"hashed": sha256(file_of(given))}
        case "torture_maps":
            output = output_of_maps(given)
        case "torture_skips":
            output = output_of_skips(given)
        case "torture_mortal":
            return Ending(slug, ["completed", "failed"], {"only": 7 * n}, "only")
        case small if small.startswith(SMALL):
            output = {"add": 2 * n + 1}
        case _:
            return Ending(slug, ["failed"], None, "fatal")
    return Ending(slug, ["completed"], output, None)


def values(given: Given) -> dict[str, Any] | None:
    """The output as a client gets it: with what is a blob. None for runs that fail."""
    output = ending(given).output
    if output and "summary" in output:
        output["copy"] = page_of(given)
    return output
