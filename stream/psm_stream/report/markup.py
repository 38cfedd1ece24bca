"""Markup: elements of HTML and SVG as text. `Markup` is a type of its own, so that mypy finds what was not escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import NewType

Markup = NewType("Markup", str)
"""Text that may stand in the page as it is."""

_EMPTY = frozenset({"img", "meta", "link", "col", "br"})


def escaped(text: object) -> Markup:
    """Return what anybody wrote as text of the page. What cannot be printed becomes a question mark in a diamond."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))
    return Markup(html.escape(shown))


def element(name: str, /, *children: Markup, **attributes: str | float | None) -> Markup:
    """Return an element. `class_` is class, `font_size` font-size; numbers are rounded, and None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_shortest(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>" if name in _EMPTY else f"<{name}{written}>{''.join(children)}</{name}>")


def joined(parts: Iterable[Markup]) -> Markup:
    """Return one after the other."""
    return Markup("".join(parts))


def shortened(text: str, letters: int) -> str:
    """Return the text, or its beginning and an ellipsis, `letters` long at most."""
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def number(value: float, digits: int = 2) -> str:
    """Return a number of the page's geometry, as short as it can be."""
    written = f"{value:.{digits}f}"
    written = written.rstrip("0").rstrip(".") if "." in written else written
    return "0" if written == "-0" else written


def _shortest(value: str | float) -> str:
    return value if isinstance(value, str) else number(value)
