"""Steps that may be skipped: by a condition, or when no attempt is left."""

from typing import Any

import pytest

from pgflow_events.errors import DefinitionError
from pgflow_events.flow.flow import Flow
from pgflow_events.flow.nodes import Condition, OptionalNode
from pgflow_events.flow.step import Node, SkippableStep, Step, StepFunction


def site() -> tuple[Flow[Any], StepFunction[[object], dict[str, Any], dict[str, Any]]]:
    flow: Flow[Any] = Flow("site")

    @flow.step(flow.input)
    def page(run: object) -> dict[str, Any]:
        return {"run": run}

    return flow, page


def takes_any(*_: object) -> int:
    return 0


def define(flow: Flow[Any], *nodes: Any, slug: str = "step", **keywords: Any) -> dict[str, Any]:
    """What the definition of a step of these nodes says beside its options."""
    decorate: Any = flow.step(*nodes, slug=slug, **keywords)
    decorate(takes_any)
    said: dict[str, Any] = flow.definition()["steps"][-1]
    usual = {"step_slug", "deps_slugs", "loads", "max_attempts", "base_delay", "timeout"}
    usual |= {"blob_threshold", "keep_output"}
    return {name: value for name, value in said.items() if name not in usual}


def refused(flow: Flow[Any], *nodes: Any, **keywords: Any) -> str:
    """The error of a step of these nodes, without the part that says where."""
    before = dict(flow.steps)
    decorate: Any = flow.step(*nodes, slug="step", **keywords)
    with pytest.raises(DefinitionError) as caught:
        decorate(takes_any)
    assert flow.steps == before
    return str(caught.value).removeprefix("flow 'site', step 'step': ")


# What SQL is told.


def test_the_definition_has_the_patterns_under_the_names_of_their_steps() -> None:
    flow, page = site()
    home, gone = page.contains({"lang": "en"}), page.contains({"status": 404})
    assert define(flow, page, run_if=home, run_unless=gone) == {
        "required_input_pattern": {"page": {"lang": "en"}},
        "forbidden_input_pattern": {"page": {"status": 404}},
    }
    of_input = flow.input.contains({"depth": 0})
    assert define(flow, page, slug="other", run_unless=of_input) == {
        "forbidden_input_pattern": {"run": {"depth": 0}}
    }
    assert define(flow, page.blob, slug="third", run_if=page.contains("x")) == {
        "required_input_pattern": {"page": "x"}
    }


def test_a_step_without_dependencies_has_the_pattern_of_the_input() -> None:
    flow, _ = site()
    of_input = flow.input.contains({"lang": "en"})
    for number, nodes in enumerate([(flow.input,), (), (flow.context,)]):
        assert define(flow, *nodes, slug=f"step_{number}", run_if=of_input) == {
            "required_input_pattern": {"lang": "en"}
        }


def test_the_definition_says_what_follows_only_where_it_is_not_usual() -> None:
    flow, page = site()
    home = page.contains({})
    told = {
        "usual": ({"unmet": "skip", "exhausted": "fail", "start_delay": 0}, {}),
        "cascade": (
            {"unmet": "skip-cascade", "exhausted": "skip"},
            {"when_unmet": "skip-cascade", "when_exhausted": "skip"},
        ),
        "fail": (
            {"unmet": "fail", "exhausted": "skip-cascade", "start_delay": 30},
            {"when_unmet": "fail", "when_exhausted": "skip-cascade", "start_delay": 30},
        ),
        "nothing": (dict.fromkeys(["unmet", "exhausted", "start_delay", "run_unless"]), {}),
    }
    for slug, (keywords, said) in told.items():
        assert define(flow, page, slug=slug, run_if=home, **keywords) == {
            "required_input_pattern": {"page": {}},
            **said,
        }


def test_a_condition_may_be_about_several_values() -> None:
    flow, page = site()
    other = flow.step(page, slug="other")(takes_any)
    both = page.contains({"lang": "en"}) & other.contains(1) & flow.input.contains([])
    pattern = {"page": {"lang": "en"}, "other": 1, "run": []}
    assert define(flow, other, page, run_if=both) == {"required_input_pattern": pattern}
    assert define(flow, other, page, slug="not", run_unless=page.contains(2) & both.others[0]) == {
        "forbidden_input_pattern": {"page": 2, "other": 1}
    }
    assert other.watchers == {"step": {"required": 1}, "not": {"forbidden": 1}}
    assert page.watchers == {"step": {"required": {"lang": "en"}}, "not": {"forbidden": 2}}
    assert flow.input.watchers == {"step": {"required": []}}


def test_a_condition_about_several_values_has_one_pattern_of_each() -> None:
    flow, page = site()
    twice = page.contains({"a": 1}) & page.contains({"b": 2})
    assert refused(flow, page, run_if=twice) == (
        "run_if: it has two patterns of page: write them as one"
    )
    other = flow.step(page, slug="other")(takes_any)
    assert refused(flow, page, run_if=page.contains({}) & other.contains({})) == (
        "run_if: this step does not depend on other: name it among the nodes"
    )


@pytest.mark.parametrize(
    "join",
    [lambda a, b: a and b, lambda a, b: a or b, lambda a, _: not a, lambda a, b: a if b else b],
    ids=["and", "or", "not", "if"],
)
def test_a_condition_is_not_joined_by_words_that_would_lose_it(join: Any) -> None:
    _, page = site()
    with pytest.raises(TypeError, match="write a & b for both"):
        join(page.contains({}), page.contains([]))


# Steps that may be skipped are no nodes.

SKIPPABLE = [
    ({"exhausted": "skip"}, True),
    ({"exhausted": "skip-cascade"}, True),
    ({"exhausted": "fail"}, False),
    ({"run_if": 1}, True),
    ({"run_unless": 1}, True),
    ({"run_if": 1, "unmet": "skip"}, True),
    ({"run_if": 1, "unmet": "skip-cascade"}, True),
    ({"run_if": 1, "unmet": "fail"}, False),
    ({"run_unless": 1, "unmet": "fail"}, False),
    ({"run_if": 1, "unmet": "fail", "exhausted": "skip"}, True),
    ({"start_delay": 30}, False),
    ({}, False),
]


@pytest.mark.parametrize(("keywords", "may_be_skipped"), SKIPPABLE)
def test_a_step_that_may_be_skipped_is_no_node(
    keywords: dict[str, Any], may_be_skipped: bool
) -> None:
    flow, page = site()
    given = {key: page.contains({}) if value == 1 else value for key, value in keywords.items()}
    decorate: Any = flow.step(page, slug="step", **given)
    made = decorate(takes_any)
    assert isinstance(made, SkippableStep) is may_be_skipped
    assert isinstance(made, Node) is not may_be_skipped
    stored = flow.steps["step"]
    assert isinstance(stored, Step)
    assert stored.may_be_skipped is may_be_skipped
    assert (made.slug, made.flow, made.handler) == ("step", flow, takes_any)
    assert (made(1), made.__name__) == (0, "takes_any")


def test_what_depends_on_a_step_that_may_be_skipped_takes_none_too() -> None:
    flow, page = site()
    summary = flow.step(page, exhausted="skip", slug="summary")(lambda _: "")
    assert refused(flow, summary) == (
        "<node site.summary> may be skipped: name summary.or_none, and let the handler take None"
    )
    save = flow.step(summary.or_none, slug="save")(takes_any)
    assert save.dependencies == ("summary",)
    assert [(node.slug, node.is_optional, node.takes_handle) for node in save.nodes] == [
        ("summary", True, False)
    ]
    read = flow.step(summary.or_none.blob, page, slug="read")(takes_any)
    assert [(node.slug, node.is_optional, node.takes_handle) for node in read.nodes] == [
        ("summary", True, True),
        ("page", False, False),
    ]
    assert flow.definition()["steps"][2]["loads"] == ["summary"]
    assert isinstance(summary.or_none, OptionalNode)
    assert refused(flow, summary.or_none, summary.or_none.blob).endswith("is given twice")


def test_a_map_goes_over_a_list_that_may_be_missing() -> None:
    flow, page = site()
    links = flow.step(page, run_if=page.contains({}), slug="links")(lambda _: ["a"])
    pages = flow.step(links.each, slug="pages")(lambda link: link)
    assert pages.is_map
    assert pages.dependencies == ("links",)
    assert flow.steps["links"].feeds_map


def test_a_condition_may_be_about_a_step_that_may_be_skipped() -> None:
    flow, page = site()
    summary = flow.step(page, exhausted="skip", slug="summary")(lambda _: "")
    for number, condition in enumerate([summary.contains("x"), summary.or_none.contains("x")]):
        assert define(flow, summary.or_none, slug=f"step_{number}", run_if=condition) == {
            "required_input_pattern": {"summary": "x"}
        }


def test_a_step_that_may_be_skipped_is_no_handler_of_another() -> None:
    flow, page = site()
    summary: Any = flow.step(page, exhausted="skip", slug="summary")(lambda _: "")
    with pytest.raises(DefinitionError, match="is a step already; its function is its attribute"):
        flow.step(page, slug="again")(summary)


# Conditions that cannot be.


def test_a_condition_is_about_a_dependency_or_the_input() -> None:
    flow, page = site()
    other = flow.step(page, slug="other")(takes_any)
    _, foreign = site()
    assert refused(flow, page, run_if=other.contains({})) == (
        "run_if: this step does not depend on other: name it among the nodes"
    )
    assert refused(flow, flow.input, run_unless=page.contains({})) == (
        "run_unless: this step does not depend on page: name it among the nodes"
    )
    assert refused(flow, page, run_if=foreign.contains({})) == (
        "run_if: <node site.page> belongs to another flow"
    )
    assert refused(flow, page, run_if=Condition(flow.context, {})) == (
        "run_if: <node site.context> has no value to look at: take a step, or the input"
    )
    assert refused(flow, page, run_if=Condition(page.blob, {})) == (
        "run_if: <node site.page> has no value to look at: take a step, or the input"
    )


def test_a_condition_is_not_about_a_map_or_a_stream() -> None:
    flow, page = site()
    links = flow.step(page, slug="links")(lambda _: ["a"])
    pages = flow.step(links.each, slug="pages")(lambda link: link)
    assert refused(flow, pages, run_if=pages.contains([])) == (
        "run_if: pages is a map, and a condition is about one value: take another step"
    )

    @flow.step(page)
    async def stream(_: object) -> Any:
        yield b""

    assert refused(flow, stream, run_if=stream.contains("")) == (
        "run_if: stream yields bytes, which contain no pattern: take a step that gives JSON"
    )


@pytest.mark.parametrize("pattern", [{1}, (1,), {1: 2}, object(), float("nan"), b"x", 2**64])
def test_a_pattern_is_json(pattern: Any) -> None:
    flow, page = site()
    text = refused(flow, page, run_if=page.contains({"a": pattern}))
    assert text.startswith("run_if: the pattern cannot be stored: $.a")


def test_a_pattern_is_what_postgresql_stores() -> None:
    flow, page = site()
    text = refused(flow, page, run_if=page.contains({"a\0": 1}))
    assert text == "run_if: the pattern cannot be stored: PostgreSQL has no U+0000 in its texts"
    text = refused(flow, page, run_if=page.contains("x" * 8191))
    assert text.startswith("run_if: the pattern cannot be stored: $ takes 8,193 bytes")
    text = refused(flow, page, run_if=page.contains(b"x"))
    assert text == "run_if: a pattern is JSON, which has no bytes"
    assert define(flow, page, run_if=page.contains("\\u0000"))


@pytest.mark.parametrize("pattern", ["x", ["x"], 1, None])
def test_the_pattern_of_a_step_without_dependencies_is_a_dict(pattern: Any) -> None:
    flow, _ = site()
    text = refused(flow, flow.input, run_if=flow.input.contains(pattern))
    assert text == (
        f"run_if: the pattern of a step without dependencies is a dict, not {pattern!r}"
    )


def test_words_that_do_not_exist_are_refused() -> None:
    flow, page = site()
    home = page.contains({})
    words = "'fail' or 'skip' or 'skip-cascade'"
    assert refused(flow, page, run_if=home, unmet="ignore") == f"unmet is {words}, not 'ignore'"
    assert refused(flow, page, exhausted="skip_cascade") == (
        f"exhausted is {words}, not 'skip_cascade'"
    )
    assert refused(flow, page, unmet="skip") == (
        "unmet says what follows if a condition is not met: give run_if or run_unless too"
    )
    assert refused(flow, page, run_if={"lang": "en"}) == (
        "run_if is a condition such as page.contains({...}), not {'lang': 'en'}"
    )
    assert refused(flow, page, run_unless=page) == (
        "run_unless is a condition such as page.contains({...}), not <node site.page>"
    )
    assert refused(flow, page, start_delay=0.5) == "start_delay is a whole number, not 0.5"
    assert refused(flow, page, start_delay=-1) == "start_delay is 0 to 2147483647, not -1"
