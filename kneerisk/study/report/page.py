"""The report's parts → one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

from kneerisk.study.figures.style import Draw, page_svg


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure of the page, with how it is read."""

    name: str
    """Of letters and ``-``: its id, and its file's name."""
    title: str
    draw: Draw
    read: str
    """How to read it."""
    beware: str
    """What not to conclude from it."""

    @property
    def svg(self) -> str:
        """In the page's colours."""
        return page_svg(self.draw, self.name, f"{self.title}. {self.read}")


def render(context: Mapping[str, Any]) -> str:
    """Fill the template; what is not safe in HTML is escaped."""
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("kneerisk.study.report") / "templates"
    parts = {path.name: path.read_text("utf-8") for path in folder.iterdir() if path.is_file()}
    environment = Environment(
        loader=DictLoader(parts),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    styles, script = Markup(parts["page.css"]), Markup(parts["page.js"])
    return environment.get_template("page.html.j2").render(styles=styles, script=script, **context)


def percent(value: float | None, digits: int = 1) -> str:
    """A share in 0..1; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None) -> str:
    """A whole number with thin spaces between thousands."""
    return "–" if value is None else f"{round(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def decimal(value: float | None, digits: int = 3) -> str:
    """So many digits behind the point."""
    return "–" if value is None else f"{value:.{digits}f}"


def interval(figure: Mapping[str, Any], write: str = "decimal") -> str:
    """A figure with its interval, or a dash."""
    known: Mapping[str, Callable[[float | None], str]] = {
        "decimal": decimal,
        "ratio": partial(decimal, digits=1),
        "percent": percent,
        "number": number,
    }
    words = known[write]
    if figure["value"] is None:
        return "–"
    if figure["low"] is None and figure["high"] is None:
        return words(figure["value"])
    low, high = (
        "∞" if figure[end] is None else words(figure[end]).removesuffix(" %") for end in ("low", "high")
    )
    return f"{words(figure['value'])} ({low} to {high})"


def reasons(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why figures of records are missing, each reason once."""
    figures = (value for record in records for value in record.values() if isinstance(value, Mapping))
    return list(dict.fromkeys(str(figure["reason"]) for figure in figures if figure.get("reason")))


FILTERS: Mapping[str, Callable[..., Any]] = {
    "percent": percent,
    "number": number,
    "decimal": decimal,
    "interval": interval,
    "reasons": reasons,
}
