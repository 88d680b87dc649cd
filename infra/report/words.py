"""Numbers, durations and names as a reader wants them; the exact value stays in the markup."""

import math
import re
from datetime import UTC, datetime

from markupsafe import Markup, escape

MINUS = "\N{MINUS SIGN}"
NOTHING = Markup('<span class="none" title="not available">\N{EN DASH}</span>')
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def finite(value: object) -> float | None:
    """The number, or None where there is none or it is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def plain(value: float, digits: int = 3) -> str:
    """A number with so many decimals; in scientific notation where they would not do."""
    rounded = f"{value:,.{digits}f}"
    hidden = value != 0 and float(rounded.replace(",", "")) == 0
    text = f"{value:.2e}" if hidden or abs(value) >= 1e9 else rounded
    text = text.lstrip("-") if re.fullmatch(r"-?0\.?0*", text) else text
    return text.replace("-", MINUS)


def number(value: object, digits: int = 3) -> Markup:
    """A number with its exact value beside it in the markup, or a dash."""
    known = finite(value)
    if known is None:
        return NOTHING
    return Markup('<data value="{}">{}</data>').format(repr(value), plain(known, digits))


def trim(value: object) -> Markup:
    """A number with four decimals at most and none that say nothing, or a dash."""
    known = finite(value)
    if known is None:
        return NOTHING
    text = plain(known, 4 if abs(known) < 100 else 2)
    text = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return Markup('<data value="{}">{}</data>').format(repr(value), text)


def whole(value: object) -> Markup:
    """A number without decimals."""
    return number(value, 0)


def duration(seconds: float) -> str:
    """A duration in the units that suit it."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.{0 if seconds >= 0.01 or seconds == 0 else 1}f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def lasting(seconds: object) -> Markup:
    """A duration with its exact seconds beside it in the markup, or a dash."""
    known = finite(seconds)
    if known is None:
        return NOTHING
    return Markup('<data value="{}">{}</data>').format(repr(seconds), duration(known))


def moment(at: datetime | None) -> Markup:
    """A moment in UTC, or a dash."""
    if at is None:
        return NOTHING
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    )


def short(text: str, width: int = 26) -> str:
    """One line of at most so many characters, for a plot."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def described(value: object) -> Markup | None:
    """A figure, a list of figures or a word as a reader wants it; None for anything else."""
    match value:
        case str():
            return escape(value)
        case bool():
            return escape("yes" if value else "no")
        case int() | float():
            return trim(value)
        case list() | tuple() if value and all(finite(one) is not None for one in value):
            return Markup(", ").join(trim(one) for one in value)
        case _:
            return None


def subscript(index: int) -> str:
    """A number as an index: 12 becomes ₁₂."""
    return str(index).translate(_SUBSCRIPTS)


def plural(count: int, noun: str) -> str:
    """``1 gate``, ``2 gates``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
