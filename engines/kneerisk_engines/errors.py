"""What can go wrong between arrays and a network, in words a person can act on."""

from __future__ import annotations


class EngineError(Exception):
    """A network cannot be exported, opened or run as asked."""


class ArrayMismatchError(EngineError, ValueError):
    """An array is missing, unknown, or of another dtype or shape than the component's spec says."""


class BackendUnavailableError(EngineError):
    """The backend or precision asked for cannot run here; the message says how to get one that can."""


class NoEngineFoundError(BackendUnavailableError):
    """No verified engine of a network is here for this GPU; the message has how the nearest differs."""


class ExportError(EngineError):
    """A module cannot become a weightless graph that shares the weights file."""


class BusyError(EngineError):
    """Another process holds a lock."""


class EngineMismatchError(EngineError):
    """A cached engine is damaged, or was built for something else; the message names both sides."""
