"""Strings from outside, made harmless for where they go: a function for each destination.

Names of files, folders, classes and runs, and every string of a folder that somebody else wrote, can hold anything: bytes
that are not UTF-8, control sequences that drive a terminal, characters that turn the direction of text, markup, formulas.
Each function here takes any string, and what it returns is plain text where it is meant to go.
"""

from __future__ import annotations

import html
import json
import re
import shlex
from functools import cache
from string import Formatter
from typing import Any
from unicodedata import category

_JOINERS = "\u200c\u200d"
"""Of letters in Persian and of emoji: they show nothing by themselves and hide nothing."""
_BY_NAME = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str) -> str:
    r"""The text with whatever would not show as itself escaped: '\x1b', '\u202e', '\n'; a byte that is not UTF-8 as '\xe9'.

    That is control and format characters, line separators and lone surrogates.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


@cache
def _hidden(c: str) -> bool:
    return category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in _JOINERS


def _shown(c: str) -> str:
    if not _hidden(c):
        return c
    code = ord(c)
    if 0xDC80 <= code <= 0xDCFF:  # what Python makes of a byte in a file's name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    escaped = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _BY_NAME.get(c, escaped)


def short(text: str, most: int = 60) -> str:
    """The text for a narrow place: on one line, and long ones without their middle."""
    text = printable(text)
    head, tail = most - 1 - most // 3, most // 3
    return text if len(text) <= most else f"{text[:head]}…{text[-tail:]}"


def counted(n: int, one: str, many: str = "") -> str:
    """A number and what there are so many of, in the singular for one.

    >>> counted(1, "image"), counted(1422, "image"), counted(2, "image has", "images have")
    ('1 image', '1,422 images', '2 images have')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def for_terminal(line: str) -> str:
    """One line of a terminal or a log."""
    return printable(line)


def for_shell(word: str) -> str:
    """One word of a command that is printed to be typed."""
    if printable(word) == word:
        return shlex.quote(word)
    raw = word.encode("utf-8", "surrogateescape" if not re.search("[\ud800-\udc7f\udd00-\udfff]", word) else "replace")
    return "$'" + "".join(f"\\x{b:02x}" if b < 32 or b > 126 or b in b"'\\" else chr(b) for b in raw) + "'"


def for_json(value: Any, indent: int | None = None) -> str:
    """A JSON document; NaN and infinity are refused, by the standard and so here.

    It is valid UTF-8, and Python reads back the very string, so that a folder whose name is not UTF-8 is found again.
    """
    dumped = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return "".join(c if c == "\n" or not _hidden(c) else json.dumps(c)[1:-1] for c in dumped)


def for_csv(value: object) -> object:
    """A cell for `csv.writer`: numbers as they are, and text that a spreadsheet does not take for a formula."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@＝＋－＠") or value[:1] in tuple("\t\r\n") else text


def for_plot(text: str) -> str:
    r"""A label in a matplotlib picture: '$' starts no formula, and a leading '_' does not leave it out of the legend."""
    text = short(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


class Html(str):
    """Markup, complete as it stands."""

    __slots__ = ()


class _Escaping(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        return value if isinstance(value, Html) else for_html(format(value, format_spec))


def for_html(text: str) -> Html:
    """Text of an HTML page, or of a quoted attribute in it."""
    return Html(html.escape(printable(text)))


def markup(template: str, /, *values: object, **named: object) -> Html:
    """An HTML `template` with its `{}` filled in: all that is not `Html` itself is escaped."""
    return Html(_Escaping().vformat(template, values, named))


def joined(parts: Any) -> Html:
    """Pieces of markup one after the other; plain strings among them are escaped."""
    return Html("".join(part if isinstance(part, Html) else for_html(part) for part in parts))


def for_markdown(text: str) -> str:
    """Text within a line of Markdown: in a sentence, a heading or a table's cell."""
    text = html.escape(re.sub(r"([\\`*\[|~$#])", r"\\\1", printable(text)), quote=False)
    text = re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\_", text)  # between letters it emphasises nothing
    return re.sub(r"(?i)\b(https?|ftp)://|\bwww\.|(?<=\w)@(?=\w)", lambda m: re.sub(r"([:.@])", r"\\\1", m[0]), text)


def code_for_markdown(text: str, *, cell: bool = False) -> str:
    """Code within a line of Markdown, shown as it is; `cell`: in a table, where '|' ends a cell even in code."""
    text = printable(text)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    if not text:
        return ""
    if fence != "`" or text != text.strip() != "":  # a space on either side is not shown
        text = f" {text} "
    return f"{fence}{text.replace('|', chr(92) + '|') if cell else text}{fence}"
