"""Whatever is wrong with what a flow or step is given, the definition is refused and says what."""

import enum
import inspect
from typing import Any

import pytest

from pgflow_events.errors import DefinitionError
from pgflow_events.flow.decorators import LossyKeywords
from pgflow_events.flow.flow import Flow, StepOptions
from pgflow_events.flow.option_faults import _MEANT

FLOW_OPTIONS = [
    name
    for name, parameter in inspect.signature(Flow.__init__).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
]
STEP_OPTIONS = list(LossyKeywords.__annotations__)


class Color(enum.StrEnum):
    RED = "red"


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Forged:
    def __repr__(self) -> str:
        return "a\n2026-01-01 ERROR \x1b[31m\u2028"


class Loud:
    def __repr__(self) -> str:
        return "x" * 100_000


NONSENSE: list[Any] = [
    "", "3", "x" * 100_000, b"3", -1, 2**31, 10**5000, 0.5, float("nan"), [], [3], {}, (), set(),
    object(), Color.RED, Mute(), Loud(), Forged(), len, lambda: 1, (n for n in ()),
    Flow("other").input, StepOptions(), "text/html\n", "\udc80/x", "text/", "/html", "text/html\0",
]  # fmt: skip


def define_flow(**options: Any) -> None:
    Flow("site", **options)


def define_step(**options: Any) -> None:
    flow = Flow("site")

    @flow.step(flow.input, **options)
    def page(run: object) -> str:
        return ""

    assert not flow.steps


def check(refusal: DefinitionError) -> None:
    text = str(refusal)
    assert text.startswith(("flow 'site': ", "flow 'site', step "))
    assert len(text) < 1000
    assert text.isprintable()
    assert "\n" not in text


@pytest.mark.parametrize("name", STEP_OPTIONS)
def test_a_wrong_value_of_any_option_of_a_step_is_refused(name: str) -> None:
    for value in NONSENSE:
        with pytest.raises(DefinitionError) as caught:
            define_step(**{name: value})
        check(caught.value)
        assert name in str(caught.value)


@pytest.mark.parametrize("name", [name for name in FLOW_OPTIONS if name != "input"])
def test_a_wrong_value_of_any_option_of_a_flow_is_refused(name: str) -> None:
    for value in NONSENSE:
        with pytest.raises(DefinitionError) as caught:
            define_flow(**{name: value})
        check(caught.value)
        assert name in str(caught.value)


@pytest.mark.parametrize("value", [5, "Website", {"url": str}, [str], (str,), Flow("x").input])
def test_data_is_no_type_of_an_input(value: Any) -> None:
    with pytest.raises(DefinitionError, match="input is the type of the input"):
        define_flow(input=value)


@pytest.mark.parametrize("value", [dict, str | None, list[str], Any, Color, None])
def test_a_type_of_an_input_is_taken(value: Any) -> None:
    define_flow(input=value)


@pytest.mark.parametrize("arguments", [(), ("site", 3), (3,), (Color.RED,), ([],), (Mute(),)])
def test_a_flow_without_a_slug_or_with_more_is_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(DefinitionError):
        Flow(*arguments)


MEANT = [(word, name) for name, words in _MEANT.items() for word in words.split()]


@pytest.mark.parametrize(("word", "meant"), [*MEANT, ("max_attempt", "max_attempts")])
def test_another_librarys_word_for_an_option_gets_the_right_one(word: str, meant: str) -> None:
    for define, options in ((define_flow, FLOW_OPTIONS), (define_step, STEP_OPTIONS)):
        with pytest.raises(DefinitionError) as caught:
            define(**{word: 3})
        text = str(caught.value)
        check(caught.value)
        assert f"there is no option {word!r}" in text
        assert f"the options are {', '.join(options)}" in text
        if meant in options:
            assert f"(did you mean {meant}?)" in text


@pytest.mark.parametrize("word", ["depends_on", "after"])
def test_dependencies_are_no_option(word: str) -> None:
    with pytest.raises(DefinitionError, match="are given first, without a name"):
        define_step(**{word: []})


def test_an_option_that_nothing_resembles_gets_no_guess() -> None:
    with pytest.raises(DefinitionError) as caught:
        define_step(zzz=1)
    assert "did you mean" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(DefinitionError) as caught:
        define_step(retries=3, timeout=0, cpu_bound=1, media_type="html")
    text = str(caught.value)
    assert text == (
        "flow 'site', step 'page': there is no option 'retries' (did you mean max_attempts?);"
        f" the options are {', '.join(STEP_OPTIONS)}; media_type is a text such as 'text/html', not"
        " 'html'; cpu_bound is True or False, not 1; timeout is 1 to 2147483647, not 0"
    )
