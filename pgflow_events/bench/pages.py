"""Real HTML: 4 MB of pages that pydoc renders for modules of the standard library."""

from functools import cache
from importlib import import_module
from itertools import cycle
from pydoc import HTMLDoc

MODULES = """
argparse ast builtins calendar collections configparser datetime decimal difflib
email._header_value_parser enum io logging.handlers mailbox pathlib socket statistics tarfile
typing unittest.mock urllib.request xml.dom.minidom zipfile
"""


def html(size: int) -> str:
    """HTML of this number of characters. 4 MB take about three seconds.

    Beyond 4 MB the pages repeat, too far apart for a compressor to notice.
    """
    pages, length = list[str](), 0
    for name in cycle(MODULES.split()):
        if length >= size:
            break
        pages.append(page(name))
        length += len(pages[-1])
    return "".join(pages)[:size]


@cache
def page(module: str) -> str:
    """The page of a module."""
    return HTMLDoc().docmodule(import_module(module))
