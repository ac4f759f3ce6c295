"""Docstrings as Markdown: one sentence a line, and a list for each of Google's sections."""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from textwrap import dedent

ROLE = re.compile(r":(?:attr|class|func|meth|mod):`~?([^`]+)`")
LITERAL = re.compile(r"``([^`\n]+)``")
SENTENCES = re.compile(r"(?<=[a-z0-9)`*\"][.!?]) (?=[A-Z`*\[\"(])")
SECTION = re.compile(r"(Args|Attributes|Returns|Raises):$")
# Where a module has two blank lines, and a docstring one.
TOP_LEVEL, BREAK = re.compile(r"\n\n(?=@|def |async def |class |if __name__)"), "\n\n\n"
ENTRY = re.compile(r"([*\w.]+): (.*)", re.DOTALL)


def paragraphs(doc: str) -> Iterator[tuple[str, str]]:
    """The paragraphs of a docstring, each with the section that it is in ("" for none)."""
    section = ""
    for paragraph in inspect.cleandoc(doc).split("\n\n"):
        first, _, rest = paragraph.partition("\n")
        if match := SECTION.match(first):
            section = match[1]
            yield section, rest
        else:
            section = section if paragraph.startswith(" ") else ""
            yield section, paragraph


def entries(paragraph: str) -> dict[str, str]:
    """What a section says of each name; more indented lines go on with the entry before."""
    listed = re.sub(r"\n +", " ", re.sub(r"(?m)^ {4}(?! )", "", paragraph))
    return {match[1]: match[2] for line in listed.split("\n") if (match := ENTRY.fullmatch(line))}


def sentences(text: str, indent: str = "") -> str:
    """A text without line breaks but those between its sentences."""
    plain = LITERAL.sub(r"`\1`", ROLE.sub(r"`\1`", " ".join(text.split())))
    return f"\n{indent}".join(SENTENCES.split(plain))


def items(described: Iterable[tuple[str, str]]) -> str:
    """A list of names, each with its text."""
    return "\n".join(
        f"- `{name}`: {sentences(text, '  ')}" if text else f"- `{name}`"
        for name, text in described
    )


def joined(found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The same paragraphs, but the parts of a block of code together."""
    block: list[str] = []
    for section, paragraph in found:
        if not section and paragraph.startswith("    "):
            block.append(paragraph)
            continue
        if block:
            yield "", "\n\n".join(block)
            block = []
        yield section, paragraph
    if block:
        yield "", "\n\n".join(block)


def language(text: str) -> str:
    """What a block of code is written in."""
    try:
        compile(text, "", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return "text"
    return "python"


def examples(doc: str) -> list[str]:
    """The Python that a docstring shows."""
    blocks = [
        dedent(paragraph)
        for section, paragraph in joined(paragraphs(doc))
        if not section and paragraph.startswith("    ")
    ]
    return [block for block in blocks if language(block) == "python"]


def markdown(doc: str, leave_out: str = "") -> Iterator[str]:
    """The blocks of a docstring, without one of its sections."""
    for section, paragraph in joined(paragraphs(doc)):
        if section and section == leave_out:
            continue
        if section == "Returns":
            yield f"Returns: {sentences(paragraph)}"
        elif section:
            yield f"{section}:\n\n{items(entries(paragraph).items())}"
        elif paragraph.startswith("    "):
            text = dedent(paragraph)
            yield f"```{language(text)}\n{TOP_LEVEL.sub(BREAK, text)}\n```"
        else:
            yield sentences(paragraph)
