"""HTML that can't be broken by data: every string is escaped unless it already is ``Html``."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

_VOID = frozenset({"br", "hr", "img", "link", "meta"})


@dataclass(frozen=True, slots=True)
class Html:
    """Text that is markup already."""

    text: str


Content: TypeAlias = "Html | str | int | Iterable[Content] | None"


def escape(content: Content) -> str:
    """``content`` as safe HTML text.

    Examples:
        >>> escape(["a < b ", Html("<br>")])
        'a &lt; b <br>'
    """
    if content is None:
        return ""
    if isinstance(content, Html):
        return content.text
    if isinstance(content, str | int):
        return html.escape(str(content), quote=True)
    return "".join(escape(part) for part in content)


def tag(element: str, /, *content: Content, **attributes: str | int | bool | None) -> Html:
    """One element. A trailing underscore in an attribute's name is dropped and other underscores become dashes.

    Examples:
        >>> tag("a", "x & y", href="#t", class_="link").text
        '<a href="#t" class="link">x &amp; y</a>'
    """
    parts = [element]
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(attribute)
        elif value is not None and value is not False:
            parts.append(f'{attribute}="{html.escape(str(value), quote=True)}"')
    opening = f"<{' '.join(parts)}>"
    return Html(opening if element in _VOID else f"{opening}{escape(content)}</{element}>")


def json_script(identifier: str, value: Any) -> Html:
    r"""A JSON data block; ``<``, ``>`` and ``&`` are escaped so that no string in it can end the element.

    Examples:
        >>> json_script("s", {"a": "</script>"}).text
        '<script type="application/json" id="s">{"a":"\\u003c/script\\u003e"}</script>'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{html.escape(identifier)}">{text}</script>')
