"""How plots look: palettes, axes, and a figure → SVG that takes its colours from the page it stands in."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kneerisk.errors import KneeriskError
from kneerisk.marks import marked_png
from kneerisk.plotting import figure_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours by what they are for; each an #rrggbb."""

    ink: str
    muted: str
    grid: str
    surface: str
    main: str
    """The risk that is reported on."""
    other: str
    """What it is compared with: observed rates, no enrichment, a baseline."""
    third: str
    grades: tuple[str, str, str, str, str]
    """Of KL 0 to 4, from light to strong."""


PAPER = Palette(
    ink="#1c2127",
    muted="#58626d",
    grid="#dfe3e8",
    surface="#ffffff",
    main="#1f5fae",
    other="#b5480f",
    third="#5b7f2b",
    grades=("#c6d8ee", "#97b9e0", "#6296d0", "#2f6fb7", "#123f78"),
)
"""For files: a white ground."""

_NAMES = ("ink", "muted", "grid", "surface", "main", "other", "third", "kl0", "kl1", "kl2", "kl3", "kl4")
_MARKS = tuple(f"#0101{number:02x}" for number in range(1, len(_NAMES) + 1))
_INK, _MUTED, _GRID, _SURFACE, _MAIN, _OTHER, _THIRD, _KL0, _KL1, _KL2, _KL3, _KL4 = _MARKS
PAGE = Palette(_INK, _MUTED, _GRID, _SURFACE, _MAIN, _OTHER, _THIRD, (_KL0, _KL1, _KL2, _KL3, _KL4))
"""Marks that stand for the page's own colours, all different; :func:`page_svg` replaces them."""

Draw = Callable[[Palette], "Figure"]
"""A figure in the colours it is given."""


def new_figure(width: float = 7.0, height: float = 3.6) -> Figure:
    """An empty figure, inches; nothing global of Matplotlib's is touched.

    Raises:
        KneeriskError: Matplotlib is not installed.
    """
    try:
        made = figure_class()(figsize=(width, height), layout="constrained")
    except ImportError as error:
        raise KneeriskError(
            "plots need Matplotlib, which is not installed: pip install 'kneerisk[report]'"
        ) from error
    return made


def axes(figure: Figure, palette: Palette, rows: int = 1, columns: int = 1, place: int = 1) -> Axes:
    """One of a figure's axes, in the house's look."""
    figure.patch.set_alpha(0)
    found = figure.add_subplot(rows, columns, place)
    style(found, palette)
    return found


def style(found: Axes, palette: Palette) -> None:
    """No box, a quiet grid, the palette's ink."""
    found.set_facecolor("none")
    for side in ("top", "right", "left"):
        found.spines[side].set_visible(False)
    found.spines["bottom"].set_color(palette.muted)
    found.grid(axis="y", color=palette.grid, linewidth=0.8)
    found.set_axisbelow(True)
    found.tick_params(colors=palette.muted, labelcolor=palette.ink, length=0, labelsize=9)
    for label in (found.xaxis.label, found.yaxis.label):
        label.set(color=palette.ink, fontsize=9)


def short(words: str, most: int = 24) -> str:
    """Words that are cut where a plot has no room for them."""
    return words if len(words) <= most else words[: most - 1] + "…"


def legend(
    found: Axes, palette: Palette, place: Literal["best", "upper left", "upper right"] = "best"
) -> None:
    """A legend without a box."""
    drawn = found.legend(loc=place, frameon=False, fontsize=9, labelcolor=palette.ink)
    drawn.set_zorder(5)


def percent_axis(axis: object) -> None:
    """Ticks of shares in 0..1 as percentages, with as many digits as tell them apart."""
    from matplotlib.axis import Axis
    from matplotlib.ticker import PercentFormatter

    assert isinstance(axis, Axis)
    axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def count_axis(axis: object) -> None:
    """Ticks of counts: whole numbers, with spaces between thousands."""
    from matplotlib.axis import Axis
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    assert isinstance(axis, Axis)
    if axis.get_scale() == "linear":
        axis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", " ")))


def page_svg(draw: Draw, name: str, description: str) -> str:
    """A figure as an ``svg`` element for the middle of a page: its text is text, its colours the page's.

    Args:
        draw: the figure.
        name: of letters and ``-``; tells the figure's inner ids from those of the page's other figures.
        description: what it shows, for those who do not see it.
    """
    text = _svg(draw(PAGE), name)
    for mark, colour in zip(_MARKS, _NAMES, strict=True):
        text = text.replace(mark, f"var(--{colour})")
    body = text[text.index("<svg") :]
    head, _, rest = body.partition(">")
    points = re.search(r' width="([\d.]+)pt"', head)
    widest = "" if points is None else f' style="max-width: {1.5 * float(points[1]):.0f}px"'
    head = re.sub(r' (width|height)="[^"]*"', "", head) + widest
    head = re.sub(r' xmlns(:\w+)?="[^"]*"', "", head)
    rest = re.sub(r'(?<= id=")|(?<=url\(#)|(?<=href="#)', f"{name}-", _without_metadata(rest))
    return f'{head} role="img" aria-label="{_escaped(description)}">{rest}'


def save(draw: Draw, path: Path) -> None:
    """A figure as .svg or .png, on white; complete or absent."""
    from kneerisk.study.files import write_bytes

    figure = draw(PAPER)
    figure.patch.set(alpha=1, facecolor=PAPER.surface)
    if path.suffix.lower() == ".svg":
        write_bytes(path, _svg(figure, path.stem).encode("utf-8"))
        return
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=200, metadata={"Software": None})
    write_bytes(path, marked_png(stream.getvalue()))


def _svg(figure: Figure, salt: str) -> str:
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _without_metadata(text: str) -> str:
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)


def _escaped(text: str) -> str:
    from html import escape

    return escape(text, quote=True)
