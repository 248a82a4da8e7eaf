"""What the free text of a header says of side, view and part of the body.

Technologists and vendors write these texts by hand and by habit. Words are matched whole, separated by
whatever is no letter: neither LATERALITY nor BILATERAL names a lateral view.
"""

from __future__ import annotations

import re
from typing import Literal

from kneerisk.records import Side

_LEFT = frozenset(
    (
        "L",
        "LT",
        "LEFT",
        "LINKS",
        "GAUCHE",
        "IZQUIERDA",
        "IZQUIERDO",
        "SINISTRA",
        "SINISTRO",
        "ESQUERDO",
        "ESQUERDA",
    )
)
_RIGHT = frozenset(
    (
        "R",
        "RT",
        "RIGHT",
        "RECHTS",
        "DROIT",
        "DROITE",
        "DERECHA",
        "DERECHO",
        "DESTRA",
        "DESTRO",
        "DIREITO",
        "DIREITA",
    )
)
_BOTH = frozenset(("BILATERAL", "BILAT", "BILATERALES", "BILATERALE", "BOTH", "BEIDSEITS", "BDS", "BIL"))
_KNEE = frozenset(
    ("KNIE", "GENOU", "GENOUX", "RODILLA", "RODILLAS", "GINOCCHIO", "GINOCCHIA", "JOELHO", "JOELHOS")
)

_LATERAL = frozenset(("LAT", "LATERAL", "LATERALE", "MEDIOLATERAL", "LATEROMEDIAL", "SEITLICH", "PROFIL"))
_LATERAL_CODES = _LATERAL | frozenset(("LL", "RL", "LLD", "RLD", "ML", "LM"))
"""With the codes of ViewPosition, which are too short to be sure of in a sentence."""
_PATELLAR = frozenset(
    ("SUNRISE", "SKYLINE", "MERCHANT", "LAURIN", "AXIAL", "TANGENTIAL", "PATELLA", "PATELLAR", "HUGHSTON")
)
_FRONTAL = frozenset(
    (
        "AP",
        "PA",
        "FRONTAL",
        "ROSENBERG",
        "SCHUSS",
        "TUNNEL",
        "ANTEROPOSTERIOR",
        "POSTEROANTERIOR",
        "SYNAFLEXER",
    )
)
_OBLIQUE = frozenset(("OBLIQUE", "OBL", "RAO", "LAO", "RPO", "LPO", "RLO", "LLO"))

_ELSEWHERE = frozenset(
    (
        *(
            "CHEST",
            "THORAX",
            "TORAX",
            "LUNG",
            "LUNGS",
            "RIB",
            "RIBS",
            "STERNUM",
            "CLAVICLE",
            "SCAPULA",
            "SHOULDER",
        ),
        *(
            "HUMERUS",
            "ELBOW",
            "FOREARM",
            "WRIST",
            "HAND",
            "HANDS",
            "FINGER",
            "THUMB",
            "SKULL",
            "HEAD",
            "NECK",
            "JAW",
        ),
        *("MANDIBLE", "SINUS", "SINUSES", "FACE", "SPINE", "CSPINE", "TSPINE", "LSPINE", "SSPINE", "LUMBAR"),
        *(
            "SACRUM",
            "COCCYX",
            "ABDOMEN",
            "PELVIS",
            "BECKEN",
            "BASSIN",
            "HIP",
            "HIPS",
            "HUEFTE",
            "HÜFTE",
            "HANCHE",
        ),
        *(
            "CADERA",
            "BREAST",
            "TOOTH",
            "TEETH",
            "ANKLE",
            "FOOT",
            "FEET",
            "HEEL",
            "CALCANEUS",
            "TOE",
            "TOES",
            "HEART",
        ),
    )
)
_OF_POSTURE = frozenset(("FOOT", "FEET", "HEEL", "TOE", "TOES", "FACE", "HEAD", "NECK"))
"""Words that also tell a knee's posture or view: feet together, heel raised, de face, fibular head."""
_ABBREVIATED = re.compile(r"\b([A-Z])\.([A-Z])\b\.?")
_OR_SIGN = re.compile(r"(?<![A-Z])(?!L/R|R/L)[A-Z]/[A-Z](?![A-Z])")
"""Two lone letters around a slash that are not left and right: r/o (rule out), s/p (after)."""
_NUMBERED = re.compile(r"(?<![A-Z\d])(?:[LR]\d+|\d+[LR])(?![A-Z\d])")
"""A letter with a number is a device's or a vertebra's name: grid R2."""
_LONG_LEG = re.compile(
    r"\b(LONG LEGS?|FULL LEGS?|FULL LENGTH|FULL LIMBS?|HKA|HIP KNEE ANKLE|HIP TO ANKLE|STITCH(ED|ING)?|EOS|"
    r"SCANOGRAM|ORTHOROENTGENOGRAM|ORTHORADIOGRAM|LEG ALIGNMENT|LEG LENGTH|TELERADIOGRAM|GANZ(E )?BEIN\w*)\b"
)
_IMPLANT = re.compile(
    r"\b(TKR|TKA|UKA|UKR|TEP|ARTHROPLASTY|PROSTHE(SIS|TIC)|IMPLANTS?|KNEE REPLACEMENT|PROTHESE|PROTESIS)\b"
)

View = Literal["frontal", "lateral", "patellar", "oblique", "ambiguous"]


def words(text: str) -> list[str]:
    """Words of a text in capitals: runs of letters; digits and signs separate them."""
    return re.findall(r"[^\W\d_]+", text.upper())


def side_in(text: str) -> Side | Literal["both"] | None:
    """Side that a text names; ``both`` too where it names left and right alike."""
    plain = _OR_SIGN.sub(" ", _ABBREVIATED.sub(r"\1\2", text.upper()))
    found = set(words(_NUMBERED.sub(" ", plain)))
    left, right = bool(found & _LEFT), bool(found & _RIGHT)
    if any(word.startswith(("LKNEE", "LTKNEE")) for word in found):
        left = True
    if any(word.startswith(("RKNEE", "RTKNEE")) for word in found):
        right = True
    if found & _BOTH or (left and right):
        return "both"
    if left:
        return "L"
    return "R" if right else None


def view_in(text: str, *, is_code: bool = False) -> View | None:
    """View that a text names; ``ambiguous`` where it names a frontal and another one ("AP/LAT").

    Args:
        text: a description, or the value of ViewPosition.
        is_code: the text is a code such as ViewPosition's, where LL means a left lateral.
    """
    found = set(words(_ABBREVIATED.sub(r"\1\2", text.upper())))
    lateral = bool(found & (_LATERAL_CODES if is_code else _LATERAL))
    patellar = bool(found & _PATELLAR)
    frontal = bool(found & _FRONTAL)
    if (lateral or patellar) and frontal:
        return "ambiguous"
    if lateral:
        return "lateral"
    if patellar:
        return "patellar"
    if found & _OBLIQUE:
        return "oblique"
    return "frontal" if frontal else None


def names_knee(text: str) -> bool:
    """Whether a text names the knee."""
    return any(word in _KNEE or word.endswith(("KNEE", "KNEES")) for word in words(text))


def elsewhere_in(text: str, *, of_a_knee: bool = False) -> str | None:
    """Part of the body, far from the knee, that a text speaks of; ``None`` if there is none, or a knee.

    Args:
        text: a description, or BodyPartExamined.
        of_a_knee: BodyPartExamined names the knee: words that also tell its posture mean that.
    """
    if names_knee(text) or mentions_long_leg(text):
        return None
    parts = _ELSEWHERE - _OF_POSTURE if of_a_knee else _ELSEWHERE
    return next((word for word in words(text) if word in parts), None)


def mentions_long_leg(text: str) -> bool:
    """Whether a text speaks of a long-leg or stitched radiograph."""
    return _LONG_LEG.search(" ".join(words(text))) is not None


def mentions_implant(text: str) -> bool:
    """Whether a text speaks of a knee replacement or another implant."""
    return _IMPLANT.search(" ".join(words(text))) is not None
