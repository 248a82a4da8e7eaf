"""Options that several commands share, and their words → settings."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

if TYPE_CHECKING:
    from kneerisk.radiograph.settings import InputSettings
    from kneerisk.scoring.settings import Shard


class SideChoice(StrEnum):
    """``--side``."""

    AUTO = "auto"
    LEFT = "L"
    RIGHT = "R"
    BOTH = "both"


class InvertChoice(StrEnum):
    """``--invert``."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


class BackendChoice(StrEnum):
    """``--backend``."""

    AUTO = "auto"
    CPU = "cpu"
    TORCH = "torch"
    TENSORRT = "tensorrt"


class PrecisionChoice(StrEnum):
    """``--precision``."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class EnginePolicyChoice(StrEnum):
    """``--engine-policy``."""

    REQUIRE = "require"
    BUILD = "build"
    FALLBACK = "fallback"


class OnErrorChoice(StrEnum):
    """``--on-error``."""

    CONTINUE = "continue"
    STOP = "stop"


_DATA = "Data"
_STACK = "Stack"
_RUN = "Run"

Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT...",
        help="Folders, image files, or manifests (.csv, .tsv, .parquet).",
        show_default=False,
    ),
]
Side = Annotated[
    SideChoice,
    typer.Option(help="Which knee each image shows, where nothing else says.", rich_help_panel=_DATA),
]
IdFrom = Annotated[
    str,
    typer.Option(
        metavar="tag|folder|regex:…",
        help="Where participants' ids come from, unless a manifest names them: the DICOM PatientID, "
        "the first folder, or a pattern on the path with a group called participant_id.",
        rich_help_panel=_DATA,
    ),
]
SpacingMm = Annotated[
    float | None,
    typer.Option(help="Pixel spacing in mm, where the header gives none.", rich_help_panel=_DATA),
]
Invert = Annotated[
    InvertChoice, typer.Option(help="Whether the gray scale is reversed.", rich_help_panel=_DATA)
]
StackName = Annotated[
    str, typer.Option("--stack", help="Name or folder of the stack of networks.", rich_help_panel=_STACK)
]
Backend = Annotated[
    BackendChoice,
    typer.Option(
        help="What runs the networks; auto takes a GPU with verified engines, torch on a GPU, else the CPU.",
        rich_help_panel=_STACK,
    ),
]
Precision = Annotated[
    PrecisionChoice,
    typer.Option(
        help="Arithmetic; auto is the fastest that was verified (fp16 is for TensorRT engines).",
        rich_help_panel=_STACK,
    ),
]
EnginePolicy = Annotated[
    EnginePolicyChoice | None,
    typer.Option(
        help="Where a verified TensorRT engine is missing: stop (what --backend tensorrt does), build it, or "
        "fall back to torch or the CPU (what auto does).",
        rich_help_panel=_STACK,
        show_default=False,
    ),
]
Device = Annotated[
    str, typer.Option(help="Device of the torch backend, such as cuda:0.", rich_help_panel=_STACK)
]
ShardText = Annotated[
    str,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only part I of N, from 1; join the parts with merge.",
        rich_help_panel=_RUN,
    ),
]
Limit = Annotated[int | None, typer.Option(help="Only the first images.", rich_help_panel=_RUN)]
Workers = Annotated[
    int | None,
    typer.Option(help="Threads that read files; default: as many as CPUs, up to 4.", rich_help_panel=_RUN),
]
Timeout = Annotated[float | None, typer.Option(help="Seconds a file may take to read.", rich_help_panel=_RUN)]
ShowProgress = Annotated[
    bool, typer.Option("--progress/--no-progress", help="Progress on stderr.", rich_help_panel=_RUN)
]
Json = Annotated[bool, typer.Option("--json", help="The summary as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No summary and no progress.")]


def input_settings(
    inputs: list[Path], side: SideChoice, id_from: str, spacing_mm: float | None, invert: InvertChoice
) -> InputSettings:
    """The shared data options → settings."""
    from kneerisk.radiograph.settings import InputSettings

    return InputSettings(
        inputs=tuple(inputs),
        side=None if side is SideChoice.AUTO else cast('Literal["L", "R", "both"]', side.value),
        id_from=id_from,
        spacing_mm=spacing_mm,
        invert=invert.value,
    )


def shard(text: str) -> Shard:
    """``i/n`` → settings."""
    from kneerisk.scoring.settings import Shard

    return Shard.parse(text)


def workers(given: int | None) -> int:
    """The settings' own default where none is given."""
    from kneerisk.scoring.settings import default_workers

    return default_workers() if given is None else given
