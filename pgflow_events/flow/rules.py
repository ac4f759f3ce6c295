"""When a step starts, when it is skipped, and how many elements of a map may be lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pgflow_events.flow.nodes import Condition

Skip = Literal["skip", "skip-cascade"]
Unmet = Literal["fail", "skip", "skip-cascade"]

# What a step does when a condition is not met, and when no attempt is left.
ENDS = ("fail", "skip", "skip-cascade")


@dataclass(frozen=True, slots=True)
class Rules:
    """What `Flow.step` was told beside the nodes and the options. None: nothing was told."""

    run_if: Condition | None = None
    run_unless: Condition | None = None
    unmet: Unmet | None = None
    exhausted: Unmet | None = None
    start_delay: int | None = None
    lost: Literal["none"] | None = None
    tolerate: float | None = None

    @property
    def may_skip(self) -> bool:
        """Whether a run may go on without the step."""
        is_conditional = self.run_if is not None or self.run_unless is not None
        return (is_conditional and self.unmet != "fail") or self.exhausted not in {None, "fail"}

    @property
    def delay(self) -> dict[str, Any]:
        """The start delay under its name, if there is one."""
        return {} if self.start_delay is None else {"start_delay": self.start_delay}

    def definition(self, *, is_root: bool) -> dict[str, Any]:
        """The keys of a step's definition, only of what is not the default.

        Args:
            is_root: Whether the step has no dependencies: then its patterns are those of the input.
        """
        tolerate = 1.0 if self.lost and self.tolerate is None else self.tolerate
        keys = {
            "required_input_pattern": _pattern(self.run_if, is_root=is_root),
            "forbidden_input_pattern": _pattern(self.run_unless, is_root=is_root),
            "when_unmet": None if self.unmet == "skip" else self.unmet,
            "when_exhausted": None if self.exhausted == "fail" else self.exhausted,
            "start_delay": self.start_delay or None,
            "tolerate": tolerate,
        }
        return {name: value for name, value in keys.items() if value is not None}

    @property
    def conditions(self) -> dict[str, Condition]:
        """The conditions, each under the word that facts have for it."""
        named = {"required": self.run_if, "forbidden": self.run_unless}
        return {word: condition for word, condition in named.items() if condition is not None}


def _pattern(condition: Condition | None, *, is_root: bool) -> Any:
    if condition is None:
        return None
    if is_root:
        return condition.pattern
    return {part.node.slug: part.pattern for part in condition.parts}
