"""What to give instead of a value that cannot be stored: an expression of Python.

In it, `value` is what stands at the place that the refusal names. Types are known by their names,
so that none of their modules need be imported.
"""

import dataclasses
import enum
import sys
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any

KEPT = frozenset({type(None), bool, int, float, str, list, dict})
METHODS = ("to_dict", "tolist")  # what classes that are not known here call it
MOST_NODES = 1000  # that are looked at for an advice

# The first name in the type's MRO holds, of the topmost module: pandas.core.frame is pandas.
INSTEAD: Mapping[str, str] = {
    # builtins
    "builtins.str": "str(value)",
    "builtins.int": "int(value)",
    "builtins.float": "float(value)",
    "builtins.complex": "[value.real, value.imag]",
    "builtins.list": "list(value)",
    "builtins.dict": "dict(value)",
    "builtins.tuple": "list(value)",
    "builtins.range": "list(value)",
    "builtins.dict_items": "dict(value)",
    "builtins.dict_keys": "list(value)",
    "builtins.dict_values": "list(value)",
    "builtins.zip": "[list(item) for item in value]",
    "builtins.enumerate": "[list(item) for item in value]",
    "builtins.BaseException": "repr(value)",
    "builtins.type": "value.__qualname__",
    # the standard library
    "_io.StringIO": "value.getvalue()",
    "_io._TextIOBase": "value.read()",
    "argparse.Namespace": "vars(value)",
    "array.array": "value.tolist()",
    "collections.UserDict": "dict(value)",
    "collections.UserList": "list(value)",
    "collections.UserString": "str(value)",
    "collections.deque": "list(value)",
    "datetime.date": "value.isoformat()",
    "datetime.time": "value.isoformat()",
    "datetime.timedelta": "value.total_seconds()",
    "datetime.tzinfo": "str(value)",
    "decimal.Decimal": "str(value)",
    "email.Message": "value.as_string()",
    "fractions.Fraction": "str(value)",
    "http.BaseCookie": "{name: item.value for name, item in value.items()}",
    "ipaddress._IPAddressBase": "str(value)",
    "itertools.count": "list(itertools.islice(value, 100))",  # the three may never end
    "itertools.cycle": "list(itertools.islice(value, 100))",
    "itertools.repeat": "list(itertools.islice(value, 100))",
    "pathlib.PurePath": "str(value)",
    "re.Match": "value.group()",
    "re.Pattern": "value.pattern",
    "sqlite3.Row": "dict(value)",
    "subprocess.CompletedProcess": "value.stdout",
    "types.SimpleNamespace": "vars(value)",
    "uuid.UUID": "str(value)",
    "xml.Element": 'xml.etree.ElementTree.tostring(value, encoding="unicode")',
    # others
    "aiohttp.ClientResponse": "await value.text()",
    "arrow.Arrow": "value.isoformat()",
    "asyncpg.Record": "dict(value)",
    "bs4.Tag": "str(value)",
    "bson.ObjectId": "str(value)",
    "django.Model": "django.forms.models.model_to_dict(value)",
    "django.QuerySet": "list(value.values())",
    "google.Message": "google.protobuf.json_format.MessageToDict(value)",
    "httpx.Response": "value.text",
    "httpx.URL": "str(value)",
    "lxml._Element": 'lxml.etree.tostring(value, encoding="unicode")',
    "msgspec.Struct": "msgspec.to_builtins(value)",
    "numpy.generic": "value.item()",
    "numpy.ndarray": "value.tolist()",
    "pandas.DataFrame": 'json.loads(value.to_json(orient="records", date_format="iso"))',
    "pandas.Index": "value.tolist()",
    "pandas.Series": 'json.loads(value.to_json(date_format="iso"))',
    "polars.DataFrame": "value.to_dicts()",
    "polars.Series": "value.to_list()",
    "pyarrow.Array": "value.to_pylist()",
    "pyarrow.ChunkedArray": "value.to_pylist()",
    "pyarrow.Table": "value.to_pylist()",
    "pydantic.BaseModel": 'value.model_dump(mode="json")',
    "pydantic_core.Url": "str(value)",
    "pydantic._BaseUrl": "str(value)",
    "requests.Response": "value.text",
    "shapely.BaseGeometry": "value.wkt",
    "torch.Tensor": "value.tolist()",
}

# What gives bytes, which can be the whole value only; inside another one, they become a text.
BYTES: Mapping[str, str] = {
    "PIL.Image": "value.save(buffer := io.BytesIO(), 'PNG') or buffer.getvalue()",
    "_io.BytesIO": "value.getvalue()",
    "_io._IOBase": "value.read()",
    "builtins.bytearray": "bytes(value)",
    "builtins.bytes": "bytes(value)",
    "builtins.memoryview": "bytes(value)",
    "mmap.mmap": "bytes(value)",
    "tempfile._TemporaryFileWrapper": "pathlib.Path(value.name).read_bytes()",
    "tempfile.SpooledTemporaryFile": "value.read()",
}


def advice(value: object, *, whole: bool) -> str | None:
    """What to give instead of a value of a type that cannot be stored; None if nobody knows.

    Args:
        value: Any value at all.
        whole: Whether it is not inside another value.
    """
    try:
        return _advice(value, type(value), whole=whole)
    except Exception:  # noqa: BLE001 - its attributes may be anything
        return None


def _advice(value: object, kind: type, *, whole: bool) -> str | None:
    found = _shaped(value, kind) or _named(kind, INSTEAD)
    if found:
        return found
    if content := "value" if kind is bytes else _named(kind, BYTES):
        return content if whole else f"base64.b64encode({content}).decode()"
    return _abstract(kind)


def _shaped(value: Any, kind: type) -> str | None:
    """By what its class is made of."""
    if issubclass(kind, enum.Enum):
        return "value.value" if type(value.value) in KEPT else "value.name"
    if dataclasses.is_dataclass(kind):
        return _as_dict("dataclasses.asdict(value)", value, dataclasses.fields(kind))
    if hasattr(kind, "__attrs_attrs__"):
        return _as_dict("attrs.asdict(value)", value, kind.__attrs_attrs__)
    if hasattr(kind, "_asdict"):
        return "value._asdict()"
    if issubclass(kind, set | frozenset):
        alike = len(set(map(type, value))) <= 1 and set(map(type, value)) <= {str, int, float}
        return "sorted(value)" if alike else "list(value)"
    return None


def _as_dict(expression: str, value: Any, fields: Any) -> str:
    """What makes a dict of an object with fields, and texts of what JSON does not have."""
    left = [getattr(value, field.name, None) for field in fields]
    for node in left:
        if type(node) not in KEPT or len(left) > MOST_NODES:
            return f"json.loads(json.dumps({expression}, default=str))"
        if isinstance(node, list | dict):
            left.extend(node if isinstance(node, list) else node.values())
    return expression


def _named(kind: type, table: Mapping[str, str]) -> str | None:
    """By the name of its class, or of one from which it is derived."""
    names = (f"{base.__module__.partition('.')[0]}.{base.__qualname__}" for base in kind.__mro__)
    return next((table[name] for name in names if name in table), None)


def _abstract(kind: type) -> str | None:
    """By what can be done with it."""
    if issubclass(kind, Mapping):
        return "dict(value)"
    if issubclass(kind, Awaitable):
        return "await value"
    if issubclass(kind, Iterator):
        return "list(value)"
    if hasattr(kind, "__aiter__"):
        return "[item async for item in value]"
    if hasattr(kind, "__fspath__"):
        return "os.fspath(value)"
    return next((f"value.{name}()" for name in METHODS if hasattr(kind, name)), None) or _own(kind)


def _own(kind: type) -> str | None:
    """Of an object whose class is no part of Python: its items, or else its attributes."""
    if (
        kind.__module__.partition(".")[0] in sys.stdlib_module_names
        or kind.__module__ == "builtins"
    ):
        return None
    if hasattr(kind, "__iter__"):
        return "list(value)"
    return "vars(value)" if hasattr(kind, "__dict__") and kind.__dictoffset__ else None
