"""What benchmarks compress: real text in real markup, the same on every run.

All of it comes from the documentation that Python carries. Nothing is made up or repeated; the
figures differ a little from one Python to the next, as its documentation does.
"""

import inspect
import pydoc
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from itertools import chain
from typing import Any, TypeVar
from unittest.mock import patch

import orjson

T = TypeVar("T")

KIB = 1024

DOCUMENTED = """
argparse ast base64 bisect calendar codecs collections configparser contextlib copy csv dataclasses
datetime decimal difflib dis email.message enum fractions functools gettext glob gzip hashlib heapq
html http.client http.cookies inspect io ipaddress itertools json logging math mimetypes operator
os pathlib pickle platform posixpath pprint queue random re shutil socket statistics string
subprocess tarfile tempfile textwrap threading time tokenize traceback types typing unittest
urllib.parse urllib.request uuid weakref xml.dom xml.etree.ElementTree zipfile zlib
"""

LARGE = """
tkinter tkinter.ttk email._header_value_parser builtins turtle ast mailbox enum io socket typing
logging.handlers configparser decimal
"""

ADDRESS = re.compile(r"(?: |&nbsp;)at(?: |&nbsp;)0x[0-9a-f]+")


@dataclass(frozen=True)
class Corpus:
    """Values of one kind, in two parts that share none."""

    name: str
    training: list[bytes]
    held_out: list[bytes]


def corpora() -> list[Corpus]:
    """All of them: small pages, large pages, JSON, random bytes."""
    return [site(), large_pages(), parsed_pages(), noise()]


@cache
def site() -> Corpus:
    """Pages of 3 to 8 kB of one site: those about the functions and classes of Python."""
    return Corpus("small pages", *parts(small(pages())))


def trainings() -> Iterator[Corpus]:
    """Pages of the site that share less with those they are trained on, or less often."""
    sections = [small(section(name)) for name in DOCUMENTED.split()]
    known, unknown = parts(sections)
    yield Corpus("sections that training did not see", [*chain(*known)], [*chain(*unknown)])
    few = site()
    for count in (10, 50, 100):
        spread = few.training[:: len(few.training) // count][:count]
        yield Corpus(f"trained on {count} pages", spread, few.held_out)
    training, held_out = parts(pages())
    for low, high in ((1, 3), (3, 8), (8, 16), (16, 40)):
        name = f"pages of {low} to {high} kB, trained on all"
        kept = [page for page in held_out if low * 1000 <= len(page) < high * 1000]
        yield Corpus(name, training, kept)


@cache
def large_pages() -> Corpus:
    """Pages of 0.1 to 1.6 MB about whole modules; few, so to be trained on those of the site."""
    large = [pydoc.HTMLDoc().docmodule(import_module(name)) for name in LARGE.split()]
    return Corpus("large pages", site().training, [plain(page) for page in large])


@cache
def parsed_pages() -> Corpus:
    """Lists of dicts as a parser returns them, of 0.5 to 15 kB: links, words with counts."""
    return Corpus("JSON", *parts([orjson.dumps(parse(page.decode())) for page in pages()]))


def noise() -> Corpus:
    """Random bytes, as of images and archives: 100 times 64 KiB."""
    source = random.Random(1)
    return Corpus("random bytes", *parts([source.randbytes(64 * KIB) for _ in range(100)]))


def small(values: Sequence[bytes]) -> list[bytes]:
    """Those of about 5 kB."""
    return [value for value in values if 3000 <= len(value) < 8000]


def parts(values: Sequence[T]) -> tuple[list[T], list[T]]:
    """Three of four for training, the fourth held out."""
    return [value for n, value in enumerate(values) if n % 4], list(values[::4])


def pages() -> list[bytes]:
    """All pages of the site, in order."""
    return [page for name in DOCUMENTED.split() for page in section(name)]


@cache
def section(name: str) -> list[bytes]:
    """The pages about what one module defines, as `python -m pydoc -b` serves them."""
    module = import_module(name)
    own = [key for key, thing in sorted(vars(module).items()) if is_page(module, key, thing)]
    # The server would import every module anew, for each page.
    with patch.object(pydoc, "locate", lambda path, forceload, locate=pydoc.locate: locate(path)):
        return [plain(serve(f"get?key={name}.{key}")) for key in own]


def serve(address: str) -> str:
    """What the browser gets."""
    page: str = vars(pydoc)["_url_handler"](address)
    return page


def is_page(module: Any, key: str, thing: Any) -> bool:
    """Whether the site has a page of its own for it: a public function or class."""
    kept = inspect.isclass(thing) or inspect.isroutine(thing)
    return kept and key[0] != "_" and getattr(thing, "__module__", None) == module.__name__


def plain(page: str) -> bytes:
    """A page without what differs from process to process."""
    return ADDRESS.sub("", page).encode()


def parse(page: str) -> list[dict[str, Any]]:
    """The links of a page and the words of its text, the most frequent first."""
    reader = Reader()
    reader.feed(page)
    counts = Counter(re.findall(r"\w{3,}", " ".join(reader.text)))
    return [*reader.links, *({"word": word, "count": n} for word, n in counts.most_common())]


class Reader(HTMLParser):
    """Gathers links and text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[dict[str, Any]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (address := dict(attrs).get("href")):
            self.links.append({"href": address, "position": self.getpos()[0]})

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def texts(size: int) -> Iterator[str]:
    """Pieces of so many characters of the large pages, none twice."""
    text = b"".join(large_pages().held_out).decode()
    return (text[at : at + size] for at in range(0, len(text) - size + 1, size))


def lists(size: int) -> Iterator[list[dict[str, Any]]]:
    """Lists of dicts whose JSON has so many bytes, of the parsed pages; none twice."""
    gathered, length = [], 2
    for item in chain(*map(orjson.loads, parsed_pages().held_out + parsed_pages().training)):
        gathered.append(item)
        length += len(orjson.dumps(item)) + 1
        if length >= size:
            yield gathered
            gathered, length = [], 2
