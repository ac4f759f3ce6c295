"""No text of ours has to be read twice for its turns of phrase; pages have one sentence a line."""

import pytest

from ..parts.places import ROOT
from ..parts.words import crowded, files, refused, with_text


@pytest.mark.parametrize("path", with_text(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_has_a_turn_of_phrase_that_is_refused(path):
    assert [str(hit) for hit in refused(path)] == []


@pytest.mark.parametrize("path", files("*.md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_line_of_a_page_has_one_sentence(path):
    assert [str(hit) for hit in crowded(path)] == []
