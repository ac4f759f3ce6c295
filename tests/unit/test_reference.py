"""docs/reference/python.md is what the docstrings say."""

from itertools import chain

import pgflow_events

from ..parts.places import REFERENCE
from ..parts.reference import python_page
from ..parts.reference.docstrings import markdown, sentences


def test_the_page_is_what_the_generator_makes():
    committed = (REFERENCE / "python.md").read_text("utf-8")
    assert committed == python_page.page(), "docstrings have changed: run `make reference`"


def test_the_page_has_every_public_name():
    named = list(chain.from_iterable(python_page.GROUPS.values()))
    assert sorted(named) == sorted(pgflow_events.__all__)


def test_a_docstring_becomes_sentences_and_lists():
    doc = """Do it. Then stop.

    Args:
        first: A thing, see :class:`Flow`. It has
            two lines.
        *rest: ``None`` or more.

    Returns:
        What was done.

    No more of it.
    """
    assert list(markdown(doc)) == [
        "Do it.\nThen stop.",
        "Args:\n\n- `first`: A thing, see `Flow`.\n  It has two lines.\n- `*rest`: `None` or more.",
        "Returns: What was done.",
        "No more of it.",
    ]


def test_a_sentence_goes_on_after_a_point_that_does_not_end_it():
    assert sentences("From 1.8 on it is so. `x` is") == "From 1.8 on it is so.\n`x` is"
