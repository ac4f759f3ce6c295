"""Flows whose steps may be maps, may be skipped, and may start late; and some by chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from .core import Core

OPTIONS = """
update pgflow.flows set opt_base_delay = %s, opt_blob_threshold = %s where flow_slug = %s
"""
FEW_BYTES = 4  # so that most values are blobs
LATE = 3600  # seconds: more than a test takes

# Few values, so that patterns are met about as often as not.
VALUES = [None, 0, "x", {"k": 1}, {"k": 2, "l": [1]}, [], [1], [{"k": 1}, None], [[1], 0, "x"]]
PATTERNS = [{}, {"k": 1}, {"k": 2}, [], [1], [{"k": 1}], 0, None]

values = st.sampled_from(VALUES)
lists = st.lists(values, max_size=7)
patterns = st.sampled_from(PATTERNS)
objects = st.sampled_from([pattern for pattern in PATTERNS if isinstance(pattern, dict)])
fates = st.sampled_from(["skip", "skip-cascade", "skip", "fail"])


@dataclass(eq=False, repr=False)
class Step:
    """A step with its options."""

    slug: str
    deps: tuple[str, ...] = ()
    is_map: bool = False
    required: dict[str, Any] | None = None
    forbidden: dict[str, Any] | None = None
    unmet: str = "skip"
    exhausted: str = "fail"
    tolerate: str | None = None
    """A share of the elements, in decimal."""
    start_delay: int = 0
    attempts: int = 2

    def options(self) -> dict[str, Any]:
        """As add_step() takes them: what is not the default."""
        given = {
            "step_type": "map" if self.is_map else None,
            "required_input_pattern": self.required,
            "forbidden_input_pattern": self.forbidden,
            "when_unmet": self.unmet if self.unmet != "skip" else None,
            "when_exhausted": self.exhausted if self.exhausted != "fail" else None,
            "tolerate": self.tolerate,
            "start_delay": self.start_delay or None,
            "max_attempts": self.attempts,
        }
        return {name: value for name, value in given.items() if value is not None}

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options().items())
        return f"{self.slug}<{','.join(self.deps)}{options}"


@dataclass(eq=False, repr=False)
class Shape:
    """A flow."""

    slug: str
    steps: tuple[Step, ...]
    base_delay: int = 0
    threshold: int = 8192
    """Bytes above which a value is a blob."""

    def __repr__(self) -> str:
        steps = "; ".join(map(repr, self.steps))
        return f"{self.slug}({steps}; {self.base_delay}, {self.threshold})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    @property
    def has_root_map(self) -> bool:
        return any(step.is_map and not step.deps for step in self.steps)

    def step(self, slug: str) -> Step:
        return next(step for step in self.steps if step.slug == slug)

    def dependents(self, slug: str) -> list[Step]:
        return [step for step in self.steps if slug in step.deps]

    def below(self, slug: str) -> list[Step]:
        """All that depend on a step, directly or not, in order."""
        found = {slug}
        for step in self.steps:
            if found & {*step.deps}:
                found.add(step.slug)
        return [step for step in self.steps if step.slug in found - {slug}]

    @property
    def leaves(self) -> list[str]:
        return [step.slug for step in self.steps if not self.dependents(step.slug)]


def define(core: Core, shape: Shape) -> None:
    """Make these the steps of a flow that has none."""
    core.db.execute(OPTIONS, [shape.base_delay, shape.threshold, shape.slug])
    for step in shape.steps:
        options = {
            name: Jsonb(value) if name.endswith("pattern") else value
            for name, value in step.options().items()
        }
        named = "".join(f", {name} => %s" for name in options)
        add = f"select pgflow.add_step(%s, %s, %s::text[]{named})"
        core.rows(add, shape.slug, step.slug, list(step.deps), *options.values())


@st.composite
def shapes(draw: st.DrawFn, slug: str, most: int = 6) -> Shape:
    """Up to so many steps; each is a map as often as not, and has a condition now and then."""
    steps: list[Step] = []
    threshold = draw(st.sampled_from([8192, FEW_BYTES]))
    for name in ascii_lowercase[: draw(st.integers(1, most))]:
        # SQL cannot look into a list that is made of blobs.
        readable = [step.slug for step in steps if not (step.is_map and threshold == FEW_BYTES)]
        steps.append(draw(a_step(name, [step.slug for step in steps], readable)))
    return Shape(slug, tuple(steps), draw(st.sampled_from([0, 0, LATE])), threshold)


@st.composite
def a_step(draw: st.DrawFn, slug: str, before: Sequence[str], readable: Sequence[str]) -> Step:
    """A step that may depend on those before it, and look into some of them."""
    is_map = draw(st.booleans())
    most = 1 if is_map else 3
    deps = draw(st.lists(st.sampled_from(before), max_size=most, unique=True)) if before else []
    seen = [dep for dep in deps if dep in readable] if deps else None
    return Step(
        slug,
        tuple(sorted(deps)),
        is_map,
        draw(st.one_of(st.none(), st.none(), conditions(seen))),
        draw(st.one_of(st.none(), st.none(), st.none(), conditions(seen))),
        draw(fates),
        draw(fates),
        draw(st.sampled_from([None, "0.2", "0.5", "1.0"])) if is_map else None,
        draw(st.sampled_from([0, 0, 0, 0, 0, LATE])),
        draw(st.integers(1, 2)),
    )


@st.composite
def conditions(draw: st.DrawFn, deps: Sequence[str] | None) -> dict[str, Any]:
    """What the input of a step may have to contain; None: it depends on no other."""
    if deps is None:
        return draw(objects)
    keys = draw(st.lists(st.sampled_from([*deps, "run"]), max_size=2, unique=True))
    return {key: draw(patterns) for key in keys}
