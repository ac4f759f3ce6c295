"""Texts of many pieces, with characters of one to four bytes across their seams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobstore.values import utf8

# Of each kind of string that CPython has, long enough to have seams.
FILLS = st.sampled_from(["x", "é", "—", "𝄞", "xé—𝄞"])
LONG = st.builds(
    lambda fill, times, head, tail: head + fill * times + tail,
    FILLS,
    st.integers(0, 3 * utf8.PIECE),
    st.text(max_size=5),
    st.text(max_size=5),
)


@given(LONG)
def test_the_pieces_of_a_text_are_what_python_makes_of_it(text):
    assert b"".join(utf8.pieces(text)) == text.encode()


@given(LONG, st.integers(1000, 3 * utf8.PIECE))
def test_chunks_are_all_of_one_size_but_the_last(text, size):
    *full, last = utf8.chunks(text, size) if text else [b""]
    assert b"".join([*full, last]) == text.encode()
    assert {len(chunk) for chunk in full} <= {size}
    assert len(last) <= size


@given(LONG)
def test_a_text_is_decoded_as_python_does_it(text):
    assert utf8.decode(text.encode()) == text


@pytest.mark.parametrize("place", [0, utf8.PIECE - 1, utf8.PIECE, 3 * utf8.PIECE])
def test_a_lone_surrogate_is_refused_wherever_it_stands(place):
    with pytest.raises(UnicodeEncodeError):
        list(utf8.pieces("é" * place + "\ud800" + "é"))


def test_halves_of_a_pair_in_two_pieces_are_refused():
    with pytest.raises(UnicodeEncodeError):
        list(utf8.pieces("x" * (utf8.PIECE - 1) + "\ud834\udd1e"))


@pytest.mark.parametrize("tail", [b"\xff", b"\xe2\x80", b"\xed\xa0\x80", b"\xc0\x80"])
@pytest.mark.parametrize("length", [0, utf8.PIECE - 1, utf8.PIECE])
def test_what_is_no_utf8_is_refused_wherever_it_stands(length, tail):
    with pytest.raises(UnicodeDecodeError):
        utf8.decode(b"x" * length + tail)
