"""Errors that name their fix, the codes of refused rows, and the exit codes of the commands."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """What a command's exit status says."""

    OK = 0
    FATAL = 1
    USAGE = 2
    PARTIAL = 3
    NOTHING_SCORABLE = 4
    NO_ENGINE = 5
    ENGINE_UNVERIFIED = 6
    INTERRUPTED = 130


class KneeriskError(Exception):
    """A failure that a person can act on: the message says what happened and what to do."""

    exit_code: ExitCode = ExitCode.FATAL


class UsageError(KneeriskError):
    """What the user asked for cannot be done as asked."""

    exit_code = ExitCode.USAGE


class StackError(KneeriskError):
    """A stack is missing, damaged or of another format."""


class NoEngineError(KneeriskError):
    """No backend here can run the stack as asked."""

    exit_code = ExitCode.NO_ENGINE


class EngineUnverifiedError(KneeriskError):
    """An engine's answers are not those of float32."""

    exit_code = ExitCode.ENGINE_UNVERIFIED


class Reason(StrEnum):
    """Why a row was refused (the input is not to be scored) or failed (something broke)."""

    # refused: the file was understood, and is nothing to score
    NOT_AN_IMAGE = "not-an-image"
    LINK_LEADS_OUT = "link-leads-out"
    NO_PIXELS = "no-pixels"
    MULTI_FRAME = "multi-frame"
    IMAGE_TOO_SMALL = "image-too-small"
    BLANK_IMAGE = "blank-image"
    WRONG_MODALITY = "wrong-modality"
    WRONG_BODY_PART = "wrong-body-part"
    WRONG_VIEW = "wrong-view"
    NO_KNEE_FOUND = "no-knee-found"
    SIDE_UNKNOWN = "side-unknown"
    SIDE_NOT_FOUND = "side-not-found"
    ID_NOT_FOUND = "id-not-found"
    IMPLANT = "implant"
    KNEE_CUT_OFF = "knee-cut-off"
    # failed: the file should have been readable, and was not
    FILE_UNREADABLE = "file-unreadable"
    DICOM_DAMAGED = "dicom-damaged"
    IMAGE_DAMAGED = "image-damaged"
    DECODER_MISSING = "decoder-missing"
    TIMED_OUT = "timed-out"
    OUT_OF_MEMORY = "out-of-memory"
    READER_CRASHED = "reader-crashed"
    INTERNAL_ERROR = "internal-error"

    @property
    def is_failure(self) -> bool:
        """Whether the row's status is ``failed`` rather than ``refused``."""
        return self in _FAILURES


_FAILURES = frozenset(
    {
        Reason.FILE_UNREADABLE,
        Reason.DICOM_DAMAGED,
        Reason.IMAGE_DAMAGED,
        Reason.DECODER_MISSING,
        Reason.TIMED_OUT,
        Reason.OUT_OF_MEMORY,
        Reason.READER_CRASHED,
        Reason.INTERNAL_ERROR,
    }
)
