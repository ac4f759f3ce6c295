"""Maps: steps that have a task for each element of a list."""

import re
from pathlib import Path
from typing import Any

import pytest

from blobstore import Blob
from pgflow_events.errors import DefinitionError
from pgflow_events.flow.flow import Flow
from pgflow_events.flow.step import EachNode, Node, StepFunction

NONE_SET = dict.fromkeys(
    ["max_attempts", "base_delay", "timeout", "blob_threshold", "keep_output"], None
)


def crawl() -> tuple[Flow[list[str]], StepFunction[[list[str]], list[str], list[str]]]:
    flow: Flow[list[str]] = Flow("crawl")

    @flow.step(flow.input)
    def links(site: list[str]) -> list[str]:
        return site

    return flow, links


def page(url: str) -> str:
    return f"<p>{url}"


def takes_any(*_: object) -> int:
    return 0


def refused(flow: Flow[Any], *nodes: Any, **keywords: Any) -> str:
    """The error of a step of these nodes, without the part that says where."""
    before = dict(flow.steps)
    decorate: Any = flow.step(*nodes, slug="step", **keywords)
    with pytest.raises(DefinitionError) as caught:
        decorate(takes_any)
    assert flow.steps == before
    return str(caught.value).removeprefix("flow 'crawl', step 'step': ")


def test_the_each_of_a_list_makes_a_map() -> None:
    flow, links = crawl()
    pages = flow.step(links.each)(page)
    assert (pages.is_map, links.is_map) == (True, False)
    assert pages.dependencies == ("links",)
    assert [node.slug for node in pages.nodes] == ["links.each"]
    assert [node.takes_handle for node in pages.nodes] == [False]
    assert pages("a") == "<p>a"


def test_the_elements_are_no_node_and_have_the_names_of_one() -> None:
    flow, links = crawl()
    assert isinstance(links.each, EachNode)
    assert not isinstance(links.each, Node)
    assert (links.each.slug, links.each.flow, links.each.origin) == ("links.each", flow, links)
    assert repr(links.each) == "<node crawl.links.each>"


def test_a_list_that_a_map_goes_over_knows_it() -> None:
    flow, links = crawl()
    other = flow.step(links, slug="other")(takes_any)
    assert not links.feeds_map
    pages = flow.step(links.each)(page)
    assert (links.feeds_map, pages.feeds_map, other.feeds_map) == (True, False, False)
    flow.step(pages.each.blob, slug="sizes")(takes_any)
    assert (pages.feeds_map, flow.feeds_map, flow.input.feeds_map) == (True, False, False)
    flow.step(flow.input.each, slug="root")(page)
    assert (flow.feeds_map, flow.input.feeds_map) == (True, True)


def test_a_map_may_take_the_handles_of_the_elements() -> None:
    flow, links = crawl()

    def size(url: Blob[str]) -> int:
        return url.size

    sizes = flow.step(links.each.blob)(size)
    assert (sizes.is_map, sizes.dependencies) == (True, ("links",))
    assert [(node.slug, node.takes_handle) for node in sizes.nodes] == [("links.each", True)]


def test_beside_the_elements_a_map_takes_the_input_and_the_context() -> None:
    flow, links = crawl()
    pages = flow.step(links.each, flow.input, flow.context, slug="pages")(takes_any)
    assert [node.slug for node in pages.nodes] == ["links.each", "run", "context"]
    root = flow.step(flow.input.each, flow.input.blob, slug="root")(takes_any)
    assert [node.slug for node in root.nodes] == ["run.each", "run"]
    assert root.dependencies == ()


def test_the_definition_says_which_steps_are_maps() -> None:
    flow, links = crawl()
    pages = flow.step(links.each, flow.context, timeout=30, slug="pages")(takes_any)
    flow.step(pages.each.blob, slug="sizes")(takes_any)
    flow.step(pages, slug="index")(takes_any)
    flow.step(flow.input.each, slug="root")(page)
    assert flow.definition()["steps"][1:] == [
        {
            **NONE_SET,
            "step_slug": "pages",
            "deps_slugs": ["links"],
            "loads": ["links.each"],
            "timeout": 30,
            "step_type": "map",
        },
        {
            **NONE_SET,
            "step_slug": "sizes",
            "deps_slugs": ["pages"],
            "loads": [],
            "step_type": "map",
        },
        {**NONE_SET, "step_slug": "index", "deps_slugs": ["pages"], "loads": ["pages"]},
        {
            **NONE_SET,
            "step_slug": "root",
            "deps_slugs": [],
            "loads": ["run.each"],
            "step_type": "map",
        },
    ]


@pytest.mark.parametrize(
    ("keywords", "tolerate"),
    [({}, 1.0), ({"tolerate": 0.05}, 0.05), ({"tolerate": 0}, 0), ({"tolerate": 1}, 1)],
)
def test_the_definition_says_what_a_map_may_lose(keywords: Any, tolerate: float) -> None:
    flow, links = crawl()
    flow.step(links.each, lost="none", **keywords)(page)
    assert flow.definition()["steps"][1]["tolerate"] == tolerate


def test_a_map_names_its_list_first_and_no_other_step() -> None:
    flow, links = crawl()
    other = flow.step(links, slug="other")(takes_any)
    each = "<node crawl.links.each>"
    assert refused(flow, other, links.each) == f"{each} comes first: a map goes over one list"
    assert refused(flow, links.each, other.each) == (
        "<node crawl.other.each> comes first: a map goes over one list"
    )
    assert refused(flow, links.each, other) == (
        f"<node crawl.other> cannot stand beside {each}: a map depends on one step at most"
    )
    assert refused(flow, links.each, links.blob) == (
        f"<node crawl.links> cannot stand beside {each}: a map depends on one step at most"
    )
    assert refused(flow, flow.input.each, links).endswith("a map depends on one step at most")
    assert refused(flow, links.each, flow.input, flow.input.blob).endswith("is given twice")


def test_the_elements_of_another_flow_are_refused() -> None:
    flow, _ = crawl()
    _, links = crawl()
    assert refused(flow, links.each) == "<node crawl.links.each> belongs to another flow"


def test_a_map_whose_handler_takes_too_few_arguments_is_refused() -> None:
    flow, links = crawl()
    with pytest.raises(DefinitionError, match="the step names 2 nodes: name one for each"):
        flow.step(links.each, flow.context)(page)  # type: ignore[arg-type]  # what is tested


def test_an_element_is_given_to_a_handler_as_a_value_or_as_a_handle() -> None:
    flow, links = crawl()

    def size(url: Blob[str]) -> int:
        return url.size

    with pytest.raises(DefinitionError, match=r"name links\.each\.blob to give it one"):
        flow.step(links.each)(size)  # type: ignore[arg-type]  # what is tested


def test_only_maps_lose_elements_and_only_shares_of_them() -> None:
    flow, links = crawl()
    assert refused(flow, links, lost="none") == (
        "lost is for maps: a map names the each of a list first, such as links.each"
    )
    assert refused(flow, links.each, tolerate=0.5) == (
        "tolerate says how many elements may be lost: give lost='none' too"
    )
    assert refused(flow, links.each, lost="skip") == "lost is 'none', not 'skip'"
    for share in (1.5, -0.1, float("nan"), True, "all"):
        text = refused(flow, links.each, lost="none", tolerate=share)
        assert text == f"tolerate is a share from 0 to 1, not {share!r}"


def test_the_page_on_maps_is_true() -> None:
    page = Path(__file__).parents[3] / "docs" / "guide" / "maps.md"
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "docs.maps"}
    exec("\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)), names)
    steps = names["crawl"].steps
    assert [slug for slug, step in steps.items() if step.is_map] == ["page", "status"]
    assert [slug for slug, step in steps.items() if step.may_be_skipped] == [
        "translated",
        "thumbnail",
    ]
    assert names["gallery"].dependencies == ("thumbnail",)
