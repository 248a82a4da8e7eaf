"""``--pseudonymise``: keyed hashes for participants' ids, file names and UIDs, in all that is written.

HMAC-SHA-256 (RFC 2104) under a key that the study keeps: one id gets one pseudonym in every run with
that key, and without the key nobody can tell, by trying ids, whose it is.
"""

from __future__ import annotations

import hmac
import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from kneerisk.errors import UsageError
from kneerisk.records import KneeCrop, KneeScore, RadiographRef, Refusal

LEAST_KEY = 16
"""Bytes of a key, at least: 128 bits."""
MOST_KEY = 4096
_DIGITS = 20
"""Hexadecimal digits of a pseudonym: 80 bits, so that no two of a billion ids are likely to share one."""
_LEAST_WORD = 3
"""Letters of a part of a path, at least, that is struck out of messages."""
HIDDEN = "…"


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """The pseudonyms of one key."""

    key: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Pseudonyms:
        """Read a key from a file: its bytes, white space at both ends taken off.

        Raises:
            UsageError: it cannot be read, is too short or too long, or others can read it.
        """
        try:
            with path.open("rb") as stream:
                mode = os.fstat(stream.fileno()).st_mode
                key = stream.read(MOST_KEY + 1).strip()
        except OSError as error:
            raise UsageError(f"--pseudonymise {path} cannot be read ({error.strerror})") from error
        if os.name != "nt" and stat.S_IMODE(mode) & 0o077:
            raise UsageError(f"--pseudonymise {path}: others can use this key: chmod 600 it")
        if not LEAST_KEY <= len(key) <= MOST_KEY:
            raise UsageError(
                f"--pseudonymise {path}: a key has {LEAST_KEY} to {MOST_KEY} bytes, this one {len(key)}; "
                "make one with: openssl rand -hex 32"
            )
        return cls(key)

    @property
    def fingerprint(self) -> str:
        """Tells keys apart, and nothing of the key."""
        return self._digest("key", "")[:_DIGITS]

    def participant(self, identifier: str) -> str:
        """A participant's pseudonym: ``p`` and 20 hexadecimal digits."""
        return "p" + self._digest("participant", identifier)[:_DIGITS]

    def file(self, source_path: str) -> str:
        """What stands for a file's path: ``f`` and 20 hexadecimal digits."""
        return "f" + self._digest("file", source_path)[:_DIGITS]

    def uid(self, uid: str) -> str:
        """A UID in a DICOM UID's place, of the root of UUIDs (PS3.5, B.2)."""
        return f"2.25.{int(self._digest('uid', uid)[:32], 16)}"

    def settings(self, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
        """A run's shareable settings, whose inputs are told by a keyed hash alone."""
        hidden = dict(fingerprint)
        hidden["inputs"] = [f"input {number + 1}" for number in range(len(hidden.get("inputs", ())))]
        hidden["inputs_sha256"] = self._digest("inputs", str(hidden.get("inputs_sha256")))
        hidden["manifests"] = [
            [f"manifest {n + 1}", d] for n, (_, d) in enumerate(hidden.get("manifests", ()))
        ]
        return hidden

    def knee(self, knee: KneeScore | Refusal) -> KneeScore | Refusal:
        """An outcome as it may be written."""
        if isinstance(knee, KneeScore):
            crop = self._crop(knee.prediction.crop)
            return replace(knee, prediction=replace(knee.prediction, crop=crop))
        ids = (knee.participant_id, knee.ref.participant_id)
        return replace(
            knee,
            ref=self._ref(knee.ref, ids),
            participant_id=self._id(knee.participant_id),
            sop_instance_uid=self._uid(knee.sop_instance_uid),
            message=_struck_out(knee.message, (*ids, *_words_of(knee.ref))),
        )

    def _crop(self, crop: KneeCrop) -> KneeCrop:
        return replace(
            crop,
            ref=self._ref(crop.ref, (crop.participant_id, crop.ref.participant_id)),
            participant_id=self._id(crop.participant_id),
            sop_instance_uid=self._uid(crop.sop_instance_uid),
        )

    def _ref(self, ref: RadiographRef, ids: tuple[str | None, ...]) -> RadiographRef:
        known = {identifier: self.participant(identifier) for identifier in ids if identifier}
        extra = {name: _replaced(cell, known) for name, cell in ref.extra.items()}
        source_path = self.file(ref.source_path)
        return replace(
            ref,
            path=Path(source_path),
            source_path=source_path,
            participant_id=self._id(ref.participant_id),
            extra=extra,
        )

    def _id(self, identifier: str | None) -> str | None:
        return None if identifier is None else self.participant(identifier)

    def _uid(self, uid: str | None) -> str | None:
        return None if uid is None else self.uid(uid)

    def _digest(self, kind: str, text: str) -> str:
        content = f"{kind}\0{unicodedata.normalize('NFC', text)}".encode("utf-8", "surrogatepass")
        return hmac.digest(self.key, content, "sha256").hex()


def _replaced(cell: str | None, known: Mapping[str, str]) -> str | None:
    for identifier, pseudonym in known.items():
        cell = None if cell is None else cell.replace(identifier, pseudonym)
    return cell


def _words_of(ref: RadiographRef) -> Iterable[str]:
    """What a message may hold of a file's path: the whole, and each name on the way."""
    for text in (str(ref.path), ref.source_path):
        yield text
        for part in PurePath(text).parts:
            yield from (part, PurePath(part).stem)


def _struck_out(message: str, words: Iterable[str | None]) -> str:
    for word in sorted({w for w in words if w and len(w) >= _LEAST_WORD}, key=len, reverse=True):
        message = message.replace(word, HIDDEN)
    return message
