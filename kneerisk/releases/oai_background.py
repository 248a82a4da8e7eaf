"""Age, sex, site, BMI, WOMAC, injury, surgery and replacements of OAI's participants.

AllClinicalXX (V00AGE, P02SEX, P01BMI, V00WOMTSR, P01INJR, P01KSURGR at baseline; V01AGE, V01BMI, V01WOMTSR,
V01INJR12, V01KSRGR12 and so on later), Enrollees (V00SITE, P02SEX), Outcomes99 (V99ERKDAYS, V99ERKRPCF,
V99ERKBLRP).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kneerisk.radiograph.sources.tables import Row
from kneerisk.releases.backgrounds import DAYS_A_MONTH, Cells, background, read_participants
from kneerisk.releases.cells import code_of, number_of, yes_of
from kneerisk.releases.ledger import Ledger
from kneerisk.releases.records import Background, KneeKey

_CLINICAL = re.compile(r"allclinical(\d\d)")
_MONTHS = {"00": 0, "01": 12, "03": 24, "05": 36, "06": 48, "08": 72, "10": 96}
_NEVER = float("inf")
_CONFIRMED = "3"


def is_background(stem: str) -> bool:
    """Whether a table's name, in small letters and without its ending, is one of these."""
    match = _CLINICAL.fullmatch(stem)
    return stem in ("enrollees", "outcomes99") or (match is not None and match.group(1) in _MONTHS)


class OaiBackground:
    """The tables, read; :meth:`of` answers for any knee and visit."""

    def __init__(self, tables: Sequence[Path], ledger: Ledger) -> None:
        self._cells = Cells()
        self._replaced: dict[tuple[str, str], float] = {}
        """(participant, side) → months after enrolment; infinite where it was not."""
        for path in sorted(tables, key=lambda p: p.stem.casefold()):
            match = _CLINICAL.fullmatch(path.stem.casefold())
            code = match.group(1) if match else "00"
            if path.stem.casefold() == "outcomes99":
                read_participants(path, "ID", ledger, self._outcome)
            else:
                read_participants(path, "ID", ledger, partial(self._clinic, code))

    def of(self, key: KneeKey) -> Background:
        """What is known of a knee at a visit."""
        replaced = self._replaced.get((key.participant_id, key.side))
        months = tuple(_MONTHS.values())
        return background(self._cells, key.participant_id, key.visit_month, key.side, months, replaced)

    def _clinic(self, code: str, who: str, row: Row) -> None:
        month, first = _MONTHS[code], code == "00"
        fields = {
            "age": f"V{code}AGE",
            "bmi": "P01BMI" if first else f"V{code}BMI",
            **{f"womac {s}": f"V{code}WOMTS{s}" for s in "RL"},
            **{f"injury {s}": f"P01INJ{s}" if first else f"V{code}INJ{s}12" for s in "RL"},
            **{f"surgery {s}": f"P01KSURG{s}" if first else f"V{code}KSRG{s}12" for s in "RL"},
        }
        for field, column in fields.items():
            self._cells.put(who, field, month, row.get(column, ""))
        self._cells.put(who, "sex", 0, row.get("P02SEX", ""))
        self._cells.put(who, "site", 0, row.get("V00SITE", ""))

    def _outcome(self, who: str, row: Row) -> None:
        for side in "RL":
            days = number_of(row.get(f"V99E{side}KDAYS", ""))
            confirmed = code_of(row.get(f"V99E{side}KRPCF", "")) == _CONFIRMED
            before = yes_of(row.get(f"V99E{side}KBLRP", "")) is True
            when = 0.0 if before else days / DAYS_A_MONTH if confirmed and days is not None else _NEVER
            self._replaced[who, side] = when
