"""Checks the URLs of object storages. Errors never quote a URL, which may hold a password."""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import url2pathname

BUCKET = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


def parse(url: str) -> SplitResult:
    """Split a URL into its parts, and check them."""
    parts = _split(url)
    if parts.scheme not in {"s3", "gs", "az", "file"}:
        raise ValueError("the URL must be s3://, gs:// or az://BUCKET/PREFIX, or file:///DIR")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "the URL of an object storage may have no user, password, query or fragment:"
            " credentials and options come from the environment"
        )
    if parts.scheme == "file":
        if parts.netloc or parts.path.strip("/") == "":
            raise ValueError("file:// must be followed by the absolute path of a folder")
    elif not BUCKET.fullmatch(parts.netloc):
        raise ValueError(f"{parts.scheme}:// must be followed by the name of a bucket or container")
    return parts


def _split(url: str) -> SplitResult:
    with suppress(ValueError):  # its text quotes the URL
        return urlsplit(url)
    raise ValueError("the URL of the object storage cannot be parsed")


def folder_of(parts: SplitResult) -> Path:
    """Return the folder of a file URL. It must exist, and others must not be able to change it."""
    folder = Path(url2pathname(parts.path))
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    # A group may share a storage: its members trust each other. But root trusts no group.
    others = stat.S_IWOTH if os.geteuid() else stat.S_IWOTH | stat.S_IWGRP
    if folder.stat().st_mode & others:
        raise ValueError(
            f"others may write to {folder}, and could put links in it that lead elsewhere:"
            f" run `chmod {'o-w' if os.geteuid() else 'go-w'}` on it, or choose another folder"
        )
    for parent in folder.resolve().parents:
        if parent.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            raise ValueError(
                f"everybody may write to {parent}, and could put another folder in the place of"
                f" {folder}: run `chmod o-w` or `chmod +t` on it, or choose another folder"
            )
    return folder


def setup_reason(error: Exception) -> str:
    """Return the first line without quoted values, which may be misplaced secrets."""
    line = str(error).partition("\n")[0][:300]
    return re.sub(r'".*"|".*', '"…"', line)
