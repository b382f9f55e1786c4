"""Numbers as a reader wants them: three digits, no noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_NBSP = "\u00a0"


def number(value: float | None, digits: int = 3) -> str:
    r"""``value`` with ``digits`` significant digits, powers of ten where it is very large or small.

    Examples:
        >>> [number(x) for x in (0.47213, 12345.6, 5.5e-5, 1.0, float("inf"), None)]
        ['0.472', '12,346', '5.5\xa0×\xa010⁻⁵', '1', '∞', '–']
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4 or exponent >= 7:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        head = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{head}{_NBSP}×{_NBSP}10{str(int(power)).translate(_SUPERSCRIPT)}".replace("-", "−")
    decimals = max(0, digits - 1 - exponent)
    text = f"{value:,.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def percent(share: float | None) -> str:
    r"""A share as per cent; never rounds a part to nothing or to all.

    Examples:
        >>> [percent(x) for x in (0.2413, 0.024, 0.0002, 0.9996, 1.0, 0.0)]
        ['24\xa0%', '2.4\xa0%', '<\xa00.1\xa0%', '>\xa099.9\xa0%', '100\xa0%', '0\xa0%']
    """
    if share is None or not math.isfinite(share):
        return number(share)
    if 0 < share < 0.001:
        return f"<{_NBSP}0.1{_NBSP}%"
    if 0.999 < share < 1:
        return f">{_NBSP}99.9{_NBSP}%"
    decimals = 1 if 0 < share < 0.0995 or 0.995 <= share < 1 else 0
    return f"{share * 100:,.{decimals}f}{_NBSP}%"


def interval(low: float, high: float, *, share: bool = False) -> str:
    r"""From ``low`` to ``high``, the unit once; empty where both read the same.

    Examples:
        >>> interval(0.45, 0.47, share=True), interval(0.1, 1.12), interval(0.2, 0.2)
        ('45–47\xa0%', '0.1–1.12', '')
    """
    ends = [percent(x) if share else number(x) for x in (low, high)]
    if ends[0] == ends[1]:
        return ""
    if share and not any(e.startswith(("<", ">", "∞")) for e in ends):
        return f"{ends[0].removesuffix(f'{_NBSP}%')}–{ends[1]}"
    return f"{ends[0]}–{ends[1]}" if not ends[0].startswith(("<", "−")) and not ends[1].startswith("−") else f"{ends[0]} to {ends[1]}"


def count(n: int, noun: str) -> str:
    """``n`` and its noun, in the plural where it is due.

    Examples:
        >>> count(1, "cell"), count(1200, "replicate")
        ('1 cell', '1,200 replicates')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names in a row, those beyond ``most`` as a number.

    Examples:
        >>> listed(["a", "b", "c"]), listed(["a", "b", "c", "d"], most=3)
        ('a, b and c', 'a, b and 2 more')
    """
    shown = [*names] if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def slug(text: str) -> str:
    """``text`` as part of a file name or an anchor: ASCII letters, digits, dots and dashes.

    Examples:
        >>> slug("block_perplexity.p50"), slug("../Ω x")
        ('block-perplexity.p50', 'x')
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c == ".") else "-" for c in text)
    return "-".join(part for part in kept.strip("-.").split("-") if part.strip("."))[:80] or "x"
