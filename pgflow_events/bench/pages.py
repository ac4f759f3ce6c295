"""Real HTML: what pydoc makes of modules of the standard library, 4 MB of it."""

from functools import cache
from importlib import import_module
from pydoc import HTMLDoc

MODULES = """
argparse ast builtins calendar collections configparser datetime decimal difflib
email._header_value_parser enum io logging.handlers mailbox pathlib socket statistics tarfile
typing unittest.mock urllib.request xml.dom.minidom zipfile
"""


def html(size: int) -> str:
    """About so many characters of it.

    From 4 MB on the pages come again, too far away for a compressor to notice.
    """
    whole = site()
    return (whole * (size // len(whole) + 1))[:size]


@cache
def site() -> str:
    """All pages, one after the other; takes some three seconds."""
    return "".join(HTMLDoc().docmodule(import_module(name)) for name in MODULES.split())
