"""The layouts by name."""

from __future__ import annotations

from pathlib import Path

from kneerisk.errors import UsageError
from kneerisk.simulate.layouts.layout import Layout
from kneerisk.simulate.layouts.most import MONTHS as MOST_MONTHS
from kneerisk.simulate.layouts.most import MostLayout
from kneerisk.simulate.layouts.oai import CODES, OaiLayout
from kneerisk.simulate.layouts.plain import PlainLayout

_VISITS: dict[str, tuple[int, ...] | None] = {
    "plain": None,
    "oai": tuple(CODES),
    "most": tuple(MOST_MONTHS),
}
"""Layout → the months at which its release has visits; ``None``: any."""


def open_layout(name: str, directory: Path, months: tuple[int, ...], nda: bool) -> Layout:
    """The layout ``name`` in ``directory``; nothing is written before its ``start``.

    Raises:
        UsageError: no layout has this name, or the release knows no such visit.
    """
    if name not in _VISITS:
        raise UsageError(f"layout is {name!r}; give one of {', '.join(_VISITS)}")
    if nda and name != "oai":
        raise UsageError("NDA's names are of the oai layout alone: drop --nda, or add --layout oai")
    allowed = _VISITS[name]
    strange = [] if allowed is None else [month for month in months if month not in allowed]
    if strange and allowed is not None:
        raise UsageError(
            f"the {name} layout has no visit at {', '.join(map(str, strange))} months; "
            f"it has {', '.join(map(str, allowed))}"
        )
    if name == "plain":
        return PlainLayout(directory)
    return OaiLayout(directory, months, nda) if name == "oai" else MostLayout(directory, months)
