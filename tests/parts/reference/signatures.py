"""How functions and classes are called, as their source says it."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import zip_longest
from types import FunctionType, ModuleType
from typing import Any

WIDTH = 88
# Parameters that are there to refuse what is given by mistake.
REFUSING = {"surplus", "unknown"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def source_of(thing: type | FunctionType) -> Any:
    """The definition of a class or function."""
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def parameters(function: Function) -> Iterator[str]:
    """The parameters as they are written, without self."""
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    # Where surplus arguments are refused, a missing one is refused by its default.
    given = [] if arguments.vararg and arguments.vararg.arg in REFUSING else arguments.defaults
    defaults = [None] * (len(plain) - len(given)) + given
    for argument, default in zip(plain, defaults, strict=True):
        if argument.arg not in {"self", "cls"}:
            yield parameter(argument, default)
    if arguments.vararg and arguments.vararg.arg not in REFUSING:
        yield f"*{parameter(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip_longest(arguments.kwonlyargs, arguments.kw_defaults):
        yield parameter(argument, default)
    if arguments.kwarg and arguments.kwarg.arg not in REFUSING:
        yield f"**{parameter(arguments.kwarg)}"


def parameter(argument: ast.arg, default: ast.expr | None = None) -> str:
    """A parameter with its type and default."""
    annotation = f": {written(argument.annotation)}" if argument.annotation else ""
    return argument.arg + annotation + (f" = {quoted(default)}" if default else "")


def quoted(value: ast.expr) -> str:
    """An expression, with the quotes that we write."""
    return ast.unparse(value).replace("'", '"')


def written(annotation: ast.expr) -> str:
    """A type, also one that is written as text because it is defined later."""
    return str(annotation.value) if isinstance(annotation, ast.Constant) else quoted(annotation)


def called(name: str, function: Function, *, is_class: bool = False) -> str:
    """A call with its parameters: on a line, or each on a line of its own."""
    kind = "class" if is_class else "async def" if is_async(function) else "def"
    given = list(parameters(function))
    returns = "" if is_class or not function.returns else f" -> {written(function.returns)}"
    line = f"{kind} {name}({', '.join(given)}){returns}"
    if len(line) <= WIDTH:
        return line
    return f"{kind} {name}(\n" + "".join(f"    {one},\n" for one in given) + f"){returns}"


def is_async(function: Function) -> bool:
    """Whether it is awaited."""
    return isinstance(function, ast.AsyncFunctionDef)


def fields(cls: type, module: ModuleType) -> Iterator[tuple[str, str, str]]:
    """The public fields of a dataclass: name, what is written of it, docstring."""
    body = source_of(cls).body
    for statement, following in zip_longest(body, body[1:]):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            if name.startswith("_"):
                continue
            default = f" = {plain_default(statement.value, module)}" if statement.value else ""
            doc = docstring(following)
            yield name, f"{name}: {written(statement.annotation)}{default}", doc


def plain_default(default: ast.expr, module: ModuleType) -> str:
    """A default as a reader needs it: numbers, not the names of constants."""
    if isinstance(default, ast.Call):
        return next(ast.unparse(key.value) for key in default.keywords if key.arg == "default")
    try:
        value = eval(ast.unparse(default), vars(module))
    except NameError:
        return quoted(default)
    return f"{value:_}" if isinstance(value, int) and value > 10_000 else quoted(default)


def docstring(statement: ast.stmt | None) -> str:
    """The text of a statement that is nothing else."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value)
    return ""
