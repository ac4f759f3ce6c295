"""Real HTML: what pydoc makes of modules of the standard library, 4 MB of it."""

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
    """About so many characters of it; 4 MB take some three seconds.

    From there on the pages come again, too far away for a compressor to notice.
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
    """The page of one module."""
    return HTMLDoc().docmodule(import_module(module))
