import dataclasses
import functools
import json
import logging
import re
import runpy
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
import trio

from blobstore import Blob
from pgflow_events.errors import DefinitionError
from pgflow_events.flow.flow import Context, Flow, Node, StepOptions
from pgflow_events.flow.step import StepFunction
from pgflow_events.texts import counted

ROOT = Path(__file__).parents[3]
NO_INT = [True, "3", 1.0, [3]]


def fetch(run: object) -> str:
    return f"<html>{run}</html>"


async def analyse(page: object) -> int:
    return len(str(page))


def site() -> tuple[Flow[Any], StepFunction[[Any], str, str]]:
    flow = Flow("site")
    return flow, flow.step(flow.input)(fetch)


def refused(define: Callable[[], object], *, flow: str = "site", step: str | None) -> str:
    """The error's text after the part that says where; checks that part."""
    with pytest.raises(DefinitionError) as caught:
        define()
    where = f"flow {flow!r}" if step is None else f"flow {flow!r}, step {step!r}"
    assert str(caught.value).startswith(f"{where}: ")
    return str(caught.value).removeprefix(f"{where}: ")


# Definitions that can be.


def test_a_step_keeps_what_it_was_defined_with() -> None:
    flow = Flow("site")
    page = flow.step(flow.input)(fetch)
    score = flow.step(flow.context, page, flow.input, timeout=30, slug="score")(takes_any)
    assert (page.slug, page.flow, page.handler, page.nodes) == (
        "fetch",
        flow,
        fetch,
        (flow.input,),
    )
    assert (score.slug, score.nodes) == ("score", (flow.context, page, flow.input))
    assert page.options == StepOptions()
    assert score.options == StepOptions(timeout=30)


def test_only_steps_count_as_dependencies_and_keep_their_order() -> None:
    flow, page = site()
    score = flow.step(page)(analyse)
    save = flow.step(score, flow.input, page, flow.context, slug="save")(lambda *_: None)
    assert page.dependencies == ()
    assert save.dependencies == ("analyse", "fetch")


def test_a_flow_lists_its_steps_in_the_order_of_definition() -> None:
    flow = Flow("site")
    for slug in ("zebra", "ant", "Ant", "_", "x" * 128):
        flow.step(flow.input, slug=slug)(fetch)
    assert list(flow.steps) == ["zebra", "ant", "Ant", "_", "x" * 128]
    assert all(slug == step.slug for slug, step in flow.steps.items())


def test_the_steps_of_a_flow_cannot_be_changed_from_outside() -> None:
    flow, page = site()
    with pytest.raises(TypeError):
        flow.steps["other"] = page  # type: ignore[index]  # what is tested


def test_a_step_without_nodes_takes_nothing() -> None:
    flow = Flow("site")

    @flow.step()
    def now() -> int:
        return 1

    assert (now.nodes, now.dependencies, now()) == ((), (), 1)


def test_a_step_may_have_more_nodes_than_are_type_checked() -> None:
    flow = Flow("site")
    parts = [flow.step(flow.input, slug=f"part_{n}")(fetch) for n in range(20)]
    whole = flow.step(*parts, slug="whole")(lambda *pages: len(pages))
    assert whole.dependencies == tuple(f"part_{n}" for n in range(20))


def test_one_function_can_be_several_steps() -> None:
    flow, page = site()
    again = flow.step(page, slug="again")(fetch)
    assert page.handler is again.handler


class Fetcher:
    async def __call__(self, run: object) -> str:
        return str(run)

    async def method(self, run: object) -> str:
        return str(run)

    def plain(self, run: object) -> str:
        return str(run)


@pytest.mark.parametrize(
    ("handler", "is_async"),
    [
        (fetch, False),
        (analyse, True),
        (Fetcher(), True),
        (Fetcher().method, True),
        (Fetcher().plain, False),
        (functools.partial(analyse), True),
        (functools.partial(fetch), False),
        (str, False),
        (lambda run: run, False),
    ],
)
def test_a_step_knows_whether_its_handler_is_awaited(
    handler: Callable[..., Any], is_async: bool
) -> None:
    flow = Flow("site")
    assert flow.step(flow.input, slug="step")(handler).is_async is is_async


async def yields_bytes(_: object) -> AsyncIterator[bytes]:
    yield b""


class AsyncStream:
    async def __call__(self, _: object) -> AsyncIterator[bytes]:
        yield b""

    async def method(self, _: object) -> AsyncIterator[bytes]:
        yield b""


@pytest.mark.parametrize(
    ("handler", "is_stream"),
    [
        (yields_bytes, True),
        (AsyncStream(), True),
        (AsyncStream().method, True),
        (functools.partial(yields_bytes), True),
        (fetch, False),
        (analyse, False),
    ],
)
def test_a_step_knows_whether_its_handler_yields_its_output(
    handler: Callable[..., Any], is_stream: bool
) -> None:
    flow = Flow("site")
    step = flow.step(flow.input, slug="step")(handler)
    assert step.is_stream is is_stream
    assert not (step.is_stream and step.is_async)


def test_a_step_keeps_what_only_its_worker_knows() -> None:
    flow = Flow("site")
    plain = flow.step(flow.input)(fetch)
    pages = flow.step(plain, slug="pages", media_type="text/html", by_element=True)(fetch)
    assert (plain.media_type, plain.by_element) == (None, False)
    assert (pages.media_type, pages.by_element) == ("text/html", True)


def test_the_handle_of_a_value_is_a_node_of_its_own_and_the_same_dependency() -> None:
    flow, page = site()
    save = flow.step(page.blob, flow.input.blob, slug="save")(takes_two)
    assert save.dependencies == ("fetch",)
    assert [node.takes_handle for node in save.nodes] == [True, True]
    assert [node.slug for node in save.nodes] == ["fetch", "run"]
    assert not page.takes_handle


def test_a_value_and_its_handle_are_not_given_together() -> None:
    flow, page = site()
    text = refused(lambda: flow.step(page, page.blob, slug="save")(takes_two), step="save")
    assert "is given twice" in text


def count(text: str) -> int:
    return len(text)


async def count_later(text: str) -> int:
    return len(text)


def test_a_step_may_compute_in_a_process() -> None:
    flow = Flow("site")
    assert flow.step(flow.input, cpu_bound=True)(count).cpu_bound
    assert not flow.step(flow.input, slug="here")(count).cpu_bound


def within() -> Callable[[str], int]:
    def inner(text: str) -> int:
        return len(text)

    return inner


@pytest.mark.parametrize(
    ("handler", "node", "said"),
    [
        (lambda text: text, "input", "is a function at the top of a module"),
        (within(), "input", "is a function at the top of a module"),
        (functools.partial(count), "input", "is a function at the top of a module"),
        (count_later, "input", "is a plain function"),
        (count, "context", "<node site.context> gives a cpu_bound handler something"),
        (count, "blob", "<node site.run> gives a cpu_bound handler something"),
    ],
    ids=["lambda", "inner", "partial", "async", "context", "handle"],
)
def test_what_cannot_be_called_in_a_process_is_refused(
    handler: Callable[..., Any], node: str, said: str
) -> None:
    flow = Flow("site")
    given = flow.input.blob if node == "blob" else getattr(flow, node)
    text = refused(lambda: flow.step(given, slug="step", cpu_bound=True)(handler), step="step")
    assert said in text
    assert not flow.steps


def test_the_handle_of_a_node_of_another_flow_is_refused() -> None:
    _, page = site()
    other = Flow("other")
    text = refused(lambda: other.step(page.blob, slug="save")(fetch), flow="other", step="save")
    assert "belongs to another flow" in text


def test_the_context_has_no_handle() -> None:
    flow = Flow("site")
    assert not hasattr(flow.context, "blob")


def test_a_step_may_be_called_context() -> None:
    flow = Flow("site")
    named = flow.step(flow.input, slug="context")(fetch)
    save = flow.step(named, flow.context, slug="save")(takes_two)
    assert save.dependencies == ("context",)


async def test_a_step_is_called_like_its_function() -> None:
    flow, page = site()
    score = flow.step(page)(analyse)
    assert page("home") == "<html>home</html>"
    assert await score("four") == 4


def test_a_step_carries_the_name_and_documentation_of_its_function() -> None:
    flow = Flow("site")

    @flow.step(flow.input)
    def documented(run: object) -> str:
        """Do it."""
        return str(run)

    assert documented.__doc__ == "Do it."
    assert documented.__name__ == "documented"  # type: ignore[attr-defined]  # set at run time


def test_attributes_of_a_function_do_not_hide_those_of_its_step() -> None:
    def marked(run: object) -> str:
        return str(run)

    marked.slug = "hidden"  # type: ignore[attr-defined]  # as test frameworks mark functions
    flow = Flow("site")
    assert flow.step(flow.input)(marked).slug == "marked"


def test_nodes_and_flows_show_their_names() -> None:
    flow, page = site()
    assert repr(flow) == "<Flow site>"
    assert [repr(node) for node in (flow.input, flow.context, page)] == [
        "<node site.run>",
        "<node site.context>",
        "<node site.fetch>",
    ]


def context() -> Context:
    return Context(
        run_id=UUID(int=1),
        step="fetch",
        attempt=1,
        log=logging.getLogger("test"),
        cancel_scope=trio.CancelScope(),
        resources={},
    )


def test_a_context_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        context().attempt = 2  # type: ignore[misc]  # what is tested


# The definition for SQL.


def test_the_definition_holds_what_sql_stores() -> None:
    flow = Flow("site", max_attempts=4, base_delay=0, timeout=10, blob_threshold=0, keep_output=60)
    page = flow.step(flow.input, timeout=30, blob_threshold=1, keep_output=0)(fetch)
    score = flow.step(page, flow.context, max_attempts=1, base_delay=2, slug="score")(takes_two)
    flow.step(score, page.blob, flow.input.blob, slug="save")(lambda *_: None)
    inherited = dict.fromkeys(
        ["max_attempts", "base_delay", "timeout", "blob_threshold", "keep_output"]
    )
    definition = {
        "flow_slug": "site",
        "max_attempts": 4,
        "base_delay": 0,
        "timeout": 10,
        "blob_threshold": 0,
        "keep_output": 60,
        "steps": [
            inherited
            | {
                "step_slug": "fetch",
                "deps_slugs": [],
                "loads": ["run"],
                "timeout": 30,
                "blob_threshold": 1,
                "keep_output": 0,
            },
            inherited
            | {
                "step_slug": "score",
                "deps_slugs": ["fetch"],
                "loads": ["fetch"],
                "max_attempts": 1,
                "base_delay": 2,
            },
            inherited | {"step_slug": "save", "deps_slugs": ["score", "fetch"], "loads": ["score"]},
        ],
    }
    assert flow.definition() == definition
    assert json.loads(json.dumps(flow.definition())) == definition


def test_a_flow_has_the_documented_defaults() -> None:
    assert Flow("site").definition() == {
        "flow_slug": "site",
        "max_attempts": 3,
        "base_delay": 5,
        "timeout": 60,
        "blob_threshold": 8192,
        "keep_output": None,
        "steps": [],
    }


# Slugs that cannot be.

BAD_SLUGS: list[Any] = [
    "",
    "run",
    "1st",
    "a-b",
    "a b",
    "a.b",
    "größe",
    "a\n",
    "\u0661",
    None,
    1,
    b"a",
    [],
]


@pytest.mark.parametrize("slug", [*BAD_SLUGS, "a" * 48])
def test_a_flow_with_a_bad_slug_is_refused(slug: Any) -> None:
    assert "slug" in refused(lambda: Flow(slug), flow=slug, step=None)


@pytest.mark.parametrize("slug", ["a", "_", "Run", "run_1", "A9", "context", "a" * 47])
def test_a_flow_with_a_good_slug_is_taken(slug: str) -> None:
    assert Flow(slug).slug == slug


def test_a_flow_slug_too_long_for_its_queue_is_refused_with_both_lengths() -> None:
    text = refused(lambda: Flow("a" * 48), flow="a" * 48, step=None)
    assert "48 characters" in text
    assert "47" in text


@pytest.mark.parametrize("slug", [bad for bad in BAD_SLUGS if bad is not None] + ["a" * 129])
def test_a_step_with_a_bad_slug_is_refused(slug: Any) -> None:
    flow = Flow("site")
    assert "slug" in refused(lambda: flow.step(slug=slug)(lambda: 1), step=slug)
    assert not flow.steps


@pytest.mark.parametrize(
    ("handler", "slug"), [(lambda: 1, "<lambda>"), (functools.partial(int), "")]
)
def test_a_handler_without_a_usable_name_needs_a_slug(
    handler: Callable[..., Any], slug: str
) -> None:
    flow = Flow("site")
    assert "slug" in refused(lambda: flow.step()(handler), step=slug)
    flow.step(slug="named")(handler)
    assert list(flow.steps) == ["named"]


def test_two_steps_of_one_slug_are_refused() -> None:
    flow, page = site()
    assert "already" in refused(lambda: flow.step(flow.input)(fetch), step="fetch")
    assert "already" in refused(lambda: flow.step(flow.input, slug="fetch")(analyse), step="fetch")
    assert flow.steps == {"fetch": page}


# Nodes that cannot be.


@pytest.mark.parametrize("value", ["page", None, 3, Flow("site"), fetch, Node])
def test_a_value_that_is_no_node_is_refused(value: Any) -> None:
    flow = Flow("site")
    text = refused(lambda: flow.step(flow.input, value, slug="save")(max), step="save")
    assert text.startswith(f"{value!r} is not a node")


def test_a_decorator_without_parentheses_is_refused() -> None:
    flow = Flow("site")
    step: Any = flow.step
    text = refused(lambda: step(fetch), step="fetch")
    assert text == "fetch is a function, not a node: decorate it with @flow.step(...)"


def test_a_decorator_that_was_never_applied_is_no_node() -> None:
    flow = Flow("site")
    unused: Any = flow.step(flow.input)
    assert "is not a node" in refused(lambda: flow.step(unused)(fetch), step="fetch")


@pytest.mark.parametrize("node", ["input", "context", "step"])
def test_a_node_of_another_flow_is_refused(node: str) -> None:
    flow = Flow("site")
    other = Flow("other")
    other.step(other.input, slug="step")(fetch)
    foreign: Node[Any] = other.steps["step"] if node == "step" else getattr(other, node)
    text = refused(lambda: flow.step(foreign)(fetch), step="fetch")
    assert text == f"{foreign!r} belongs to another flow"


def test_a_flow_of_the_same_slug_is_another_flow() -> None:
    flow, twin = Flow("site"), Flow("site")
    assert "another flow" in refused(lambda: flow.step(twin.input)(fetch), step="fetch")


@pytest.mark.parametrize("node", ["input", "context", "step"])
def test_the_same_node_given_twice_is_refused(node: str) -> None:
    flow, page = site()
    twice: Node[Any] = page if node == "step" else getattr(flow, node)
    text = refused(lambda: flow.step(twice, twice, slug="save")(max), step="save")
    assert text == f"{twice!r} is given twice"


# Options that cannot be.

OUT_OF_RANGE = [
    ("max_attempts", 0),
    ("base_delay", -1),
    ("timeout", 0),
    ("blob_threshold", -1),
    ("keep_output", -1),
    *((name, 2**31) for name in ("max_attempts", "base_delay", "timeout", "blob_threshold")),
    ("keep_output", 2**31),
    ("keep_output", 0.5),
    *((name, bad) for name in ("max_attempts", "timeout") for bad in NO_INT),
]


@pytest.mark.parametrize(("name", "value"), [*OUT_OF_RANGE, ("timeout", None)])
def test_a_flow_with_an_option_out_of_range_is_refused(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    assert refused(lambda: Flow("site", **options), step=None).startswith(f"{name} is ")


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_a_step_with_an_option_out_of_range_is_refused(name: str, value: Any) -> None:
    flow = Flow("site")
    options: dict[str, Any] = {name: value}
    text = refused(lambda: flow.step(flow.input, **options)(fetch), step="fetch")
    assert text.startswith(f"{name} is ")
    assert not flow.steps


def test_options_at_the_ends_of_their_ranges_are_taken() -> None:
    flow = Flow("site", max_attempts=1, base_delay=0, timeout=1, blob_threshold=0, keep_output=0)
    most = 2**31 - 1
    step = flow.step(
        flow.input,
        max_attempts=most,
        base_delay=most,
        timeout=most,
        blob_threshold=most,
        keep_output=most,
    )(fetch)
    assert step.options == StepOptions(most, most, most, most, most)


# Handlers that cannot be.


def stream(_: object) -> Iterator[int]:
    yield 1


class Stream:
    def __call__(self, _: object) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize("handler", [stream, Stream(), functools.partial(stream)])
def test_a_generator_is_refused_as_a_handler(handler: Callable[..., Any]) -> None:
    flow = Flow("site")
    text = refused(lambda: flow.step(flow.input, slug="step")(handler), step="step")
    assert text == (
        "a generator cannot be a handler: return the output, or yield bytes in an async def"
    )


@pytest.mark.parametrize("handler", ["fetch", None, 3])
def test_what_cannot_be_called_is_refused_as_a_handler(handler: Any) -> None:
    flow = Flow("site")
    text = refused(lambda: flow.step(flow.input, slug="step")(handler), step="step")
    assert text == f"{handler!r} cannot be called"


def test_a_step_is_refused_as_a_handler_of_another() -> None:
    _, page = site()
    other = Flow("other")
    decorate: Any = other.step(other.input)
    text = refused(lambda: decorate(page), flow="other", step="fetch")
    assert text == "<node site.fetch> is a step already; its function is its attribute 'handler'"
    other.step(other.input)(page.handler)
    assert list(other.steps) == ["fetch"]


def takes_two(one: object, two: object) -> None: ...
def takes_one_or_two(one: object, two: object = None) -> None: ...
def takes_any(*values: object) -> None: ...
def takes_one_and_any(one: object, *more: object) -> None: ...
def takes_a_keyword(one: object, *, two: object) -> None: ...
def takes_only_keywords(**values: object) -> None: ...


@functools.wraps(takes_two)
def wrapper(*values: object) -> None: ...


HANDLERS_AND_COUNTS: list[tuple[Callable[..., Any], set[int]]] = [
    (takes_two, {2}),
    (takes_one_or_two, {1, 2}),
    (takes_any, {0, 1, 2, 3}),
    (takes_one_and_any, {1, 2, 3}),
    (takes_a_keyword, set()),
    (takes_only_keywords, {0}),
    (functools.partial(takes_two, 1), {1}),
    (functools.partial(takes_a_keyword, two=2), {1}),
    (Fetcher().method, {1}),
    (Fetcher(), {1}),
    (Fetcher, {0}),
    (wrapper, {2}),
]


@pytest.mark.parametrize("nodes", range(4))
@pytest.mark.parametrize(("handler", "counts"), HANDLERS_AND_COUNTS)
def test_a_handler_must_take_as_many_arguments_as_there_are_nodes(
    handler: Callable[..., Any], counts: set[int], nodes: int
) -> None:
    flow, page = site()
    decorate = flow.step(*[flow.input, flow.context, page][:nodes], slug="step")
    if nodes in counts:
        assert decorate(handler).handler is handler
    else:
        text = refused(lambda: decorate(handler), step="step")
        assert text.startswith("the handler's parameters are (")
        assert f"), and the step names {counted(nodes, 'node')}: name one for each parame" in text


def test_a_handler_whose_name_is_no_slug_is_told_to_be_given_one() -> None:
    def named() -> None: ...

    named.__name__ = "größe"
    for handler in (lambda: 1, named, functools.partial(named)):
        name = getattr(handler, "__name__", "")
        text = refused(lambda handler=handler: site()[0].step()(handler), step=name)
        assert text.endswith("; the handler's name is not one: give a slug by slug='...'")


def test_a_function_that_hides_its_signature_is_taken() -> None:
    flow = Flow("site")
    assert flow.step(flow.input, slug="step")(dict.fromkeys).handler == dict.fromkeys
    assert flow.step(flow.input, slug="other")(print).handler is print
    assert flow.step(flow.input, slug="third")(max).handler is max


def test_annotations_of_a_handler_are_not_evaluated() -> None:
    flow = Flow("site")

    @flow.step(flow.input)
    def lazy(run: "imported_for_the_type_checker_only") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - what is tested

    assert list(flow.steps) == ["lazy"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    flow = Flow("site")
    decorate: Any = flow.step(flow.input, flow.input, slug="a-b", timeout=0)
    text = refused(lambda: decorate(fetch), step="a-b")
    assert text.count("; ") == 3
    assert [part in text for part in ("slug", "twice", "2 nodes", "timeout")] == [True] * 4


# The page on flows and the example.


def test_the_page_on_flows_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "guide" / "flows.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(python|text)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"__name__": "docs.flows"}
    exec("\n".join(code for kind, code in blocks if kind == "python"), names)
    told = blocks[-1][1]
    assert capsys.readouterr().out.split() == told.split()
    assert list(names["analyze"].steps)[:4] == ["website", "sentiment", "summary", "save"]
    assert names["total"].dependencies == tuple(f"count_{letter}" for letter in "aeiou")


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a page, served on the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<title>Caf\xc3\xa9</title><p>good, good, bad</p>")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


async def test_the_handlers_of_the_example_can_be_called_one_after_the_other(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(ROOT / "examples" / "analyze_website.py"))
    run = {"url": url}
    page = await trio.to_thread.run_sync(example["website"], run)
    mood, text = await example["sentiment"](page), await example["summary"](page)
    example["saveToDb"](run, mood, text)
    with closing(sqlite3.connect("websites.db")) as db:
        assert db.execute("select * from websites").fetchall() == [(url, 1 / len(page), "Café")]


def test_a_parameter_that_takes_a_handle_where_the_node_gives_the_value_is_refused() -> None:
    flow, page = site()

    def by_name(content: "Blob[str]") -> int:
        return content.size

    def by_type(content: Blob[str]) -> int:
        return content.size

    for handler in (by_name, by_type):
        faults = refused(lambda handler=handler: flow.step(page)(handler), step=handler.__name__)
        assert faults == "parameter 'content' takes a Blob: name fetch.blob to give it one"
        assert flow.step(page.blob)(handler).dependencies == ("fetch",)
