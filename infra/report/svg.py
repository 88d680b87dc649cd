"""Figures as inline SVG that takes its colours and its type from the page.

Matplotlib writes fixed colours. Here every colour of a figure is a stand-in, a hexadecimal number
that means a CSS variable, so one drawing serves light, dark and print.
"""

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from io import StringIO
from itertools import count

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

RAMP_STEPS = 21
_NAMES = (
    "ink", "soft", "grid", "panel", "accent", "warn", "pale", "truth",
    "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7",
    *(f"r{step}" for step in range(RAMP_STEPS)),
)  # fmt: skip
_STAND_INS = {name: f"#fe{index:02x}ef" for index, name in enumerate(_NAMES)}
_VARIABLES = {stand_in: f"var(--{name})" for name, stand_in in _STAND_INS.items()}
_MEASURED_WITH = "DejaVu Sans"
_LOCK = threading.Lock()

INK, SOFT, GRID, PANEL, ACCENT, WARN, PALE, TRUTH = (_STAND_INS[name] for name in _NAMES[:8])
CHAINS = tuple(_STAND_INS[f"c{chain}"] for chain in range(8))

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nexus",
    "text.parse_math": False,
    "font.family": _MEASURED_WITH,
    "font.size": 8.0,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.4,
    "path.simplify": False,
}


def ramp(position: float) -> str:
    """The stand-in of an ordered colour, from 0 (lowest category) to 1 (highest)."""
    return _STAND_INS[f"r{round(min(max(position, 0.0), 1.0) * (RAMP_STEPS - 1))}"]


def ramp_css(low: float, high: float) -> Markup:
    """The declarations of the ordered colours, from a part of viridis that suits the ground."""
    viridis = mpl.colormaps["viridis"]
    steps = [low + (high - low) * step / (RAMP_STEPS - 1) for step in range(RAMP_STEPS)]
    colours = [mpl.colors.to_hex(viridis(step)) for step in steps]
    return Markup("".join(f"--r{step}:{colour};" for step, colour in enumerate(colours)))  # noqa: S704 - hexadecimal numbers only


@contextmanager
def drawing() -> Iterator[None]:
    """Our style while figures are drawn, for one thread at a time.

    A name in a script that the measuring font lacks is no fault: the page's own font shows it.
    """
    with _LOCK, mpl.rc_context(mpl.RcParams(_STYLE)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def sheet(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure


def place(figure: Figure, left: float, bottom: float, right: float, top: float) -> Axes:
    """Axes with these margins to the figure's edges, in inches."""
    width, height = figure.get_size_inches()
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    return figure.add_axes(box)


class Inliner:
    """Turns figures into SVG elements whose ids are unique in the page."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def __call__(self, figure: Figure, title: str) -> Markup:
        """The figure as one element that a screen reader announces by its title."""
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        element = _cleaned(buffer.getvalue(), f"f{next(self._numbers)}-")
        width = figure.get_size_inches()[0]
        opening = (
            f'<svg role="img" aria-label="{escape(title)}" style="--natural:{width * 100:.0f}px"'
        )
        return Markup(element.replace("<svg", opening, 1))  # noqa: S704 - matplotlib escapes text


def _cleaned(document: str, prefix: str) -> str:
    element = document[document.index("<svg") :].strip()
    element = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", element, flags=re.DOTALL)
    element = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", element, flags=re.DOTALL)
    opening, _, rest = element.partition(">")
    opening = re.sub(r' (xmlns(:xlink)?|version|width|height)="[^"]*"', "", opening)
    rest = re.sub(r' style="[^"]*"', _themed, rest)
    rest = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), rest)
    return _renamed(re.sub(r"\s*\n\s*", "\n", f"{opening}>{rest}"), prefix)


def _themed(style: re.Match[str]) -> str:
    own = re.sub(rf"'{_MEASURED_WITH}'[^;\"]*", "var(--sans)", style[0])
    return re.sub(r"#fe[0-9a-f]{2}ef", lambda found: _VARIABLES[found[0]], own)


def _renamed(element: str, prefix: str) -> str:
    wanted = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', element))

    def rename(found: re.Match[str]) -> str:
        return f' id="{prefix}{found[1]}"' if found[1] in wanted else ""

    element = re.sub(r' id="([^"]*)"', rename, element)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", element)
