"""Options that several commands share, and how a command takes them: as the settings that they make up."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer
from kneerisk_engines.backends import BACKENDS

from kneerisk.scoring.shards import Shard

_DATA, _STACK, _RUN, _OUT = "Data", "Stack", "Run", "Outputs"
Backend = Literal[("auto", *BACKENDS)]  # type: ignore[valid-type]

ShowProgress = Annotated[
    bool, typer.Option("--progress/--no-progress", help="Progress on stderr.", rich_help_panel=_RUN)
]
Json = Annotated[bool, typer.Option("--json", help="The summary as JSON on stdout.")]
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option(
        "--log-format", help="Lines on stderr: for people, or as JSON objects.", rich_help_panel=_RUN
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No summary and no progress.")]
StackName = Annotated[
    str, typer.Option("--stack", help="Name or folder of the stack of networks.", rich_help_panel=_STACK)
]


def _option(kind: Any, help: str, panel: str, *names: str, **more: Any) -> Any:
    return Annotated[kind, typer.Option(*names, help=help, rich_help_panel=panel, **more)]


OPTIONS: dict[str, Any] = {
    "inputs": Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Folders, image files, or manifests (.csv, .tsv, .parquet).",
            show_default=False,
        ),
    ],
    "side": _option(
        Literal["auto", "L", "R", "both"], "Which knee each image shows, where nothing else says.", _DATA
    ),
    "id_from": _option(
        str,
        "Where participants' ids come from, unless a manifest names them: the DICOM PatientID, the first "
        "folder, or a pattern on the path with a group called participant_id.",
        _DATA,
        metavar="tag|folder|regex:…",
    ),
    "spacing_mm": _option(float | None, "Pixel spacing in mm, where the header gives none.", _DATA),
    "invert": _option(Literal["auto", "yes", "no"], "Whether the gray scale is reversed.", _DATA),
    "follow_links": _option(
        bool, "Follow links in folders to places outside of the inputs, too.", _DATA, "--follow-links"
    ),
    "stack": StackName,
    "backend": _option(
        Backend,
        "What runs the networks; auto takes a GPU with verified engines, torch on a GPU, else the CPU.",
        _STACK,
    ),
    "engine_policy": _option(
        Literal["require", "build", "fallback"] | None,
        "Where a verified TensorRT engine is missing: stop (what --backend tensorrt does), build it, or "
        "fall back to torch or the CPU (what auto does).",
        _STACK,
        show_default=False,
    ),
    "precision": _option(
        Literal["auto", "fp32", "bf16", "fp16"],
        "Arithmetic; auto is the fastest that was verified (fp16 is for TensorRT engines).",
        _STACK,
    ),
    "device": _option(
        str | None,
        "What the networks compute on: cpu, or a GPU such as cuda:0; default: the backend's own.",
        _STACK,
        show_default=False,
    ),
    "batch_size": _option(int, "Knees that go through the networks together; no row depends on it.", _STACK),
    "steps": _option(int | None, "Sampler steps; default: the stack's.", _STACK),
    "samples": _option(int | None, "Futures sampled for each knee; default: the stack's.", _STACK),
    "seed": _option(int, "What the futures' noise is drawn from; compare tables of one seed only.", _STACK),
    "upscale": _option(bool, "Score the centre of each crop upscaled 2×.", _STACK, "--upscale"),
    "out": _option(Path, "The table to write: .parquet or .csv.", _OUT),
    "calibration": _option(
        Path | None,
        "A file of kneerisk calibrate: risk_12m and its interval at your cohort's own rates.",
        _STACK,
        metavar="FILE.json",
    ),
    "bom": _option(bool, "Start a .csv with a byte-order mark, for Excel.", _OUT, "--bom"),
    "previews": _option(Path | None, "A picture of each knee and its forecast.", _OUT, metavar="DIR"),
    "futures": _option(Path | None, "Latents and forecast pictures of each knee.", _OUT, metavar="FILE.h5"),
    "dicom_sr": _option(
        Path | None,
        "A DICOM structured report of each DICOM image: measurements, landmarks, the networks' identity.",
        _OUT,
        metavar="DIR",
    ),
    "dicom_sc": _option(
        Path | None, "The picture of each knee as a DICOM secondary capture.", _OUT, metavar="DIR"
    ),
    "run_report": _option(
        Path | None, "Settings, versions, counts, time of each stage.", _OUT, metavar="FILE.json"
    ),
    "pseudonymise": _option(
        Path | None,
        "Replace participants' ids, file names and UIDs by hashes under the key in a file.",
        _OUT,
        metavar="KEYFILE",
    ),
    "resume": _option(bool, "Go on where an earlier run stopped.", _RUN, "--resume"),
    "overwrite": _option(bool, "Throw an earlier table or run away.", _RUN, "--overwrite"),
    "retry_failed": _option(
        bool, "Keep an earlier run's rows but score failed ones again.", _RUN, "--retry-failed"
    ),
    "on_error": _option(Literal["continue", "stop"], "What a failed row does to the run.", _RUN),
    "shard": _option(
        str,
        "Only part I of N, from 1; join the parts with merge. slurm: the part of this task of a Slurm array.",
        _RUN,
        metavar="I/N|slurm|slurm/N",
    ),
    "runner": _option(
        Literal["local", "ray"],
        "Who scores: this machine, or the nodes of a Ray cluster (docs/cluster.md).",
        _RUN,
    ),
    "ray_address": _option(
        str | None,
        "The Ray cluster; default: RAY_ADDRESS, else the one that this machine belongs to.",
        _RUN,
        metavar="HOST:PORT",
        show_default=False,
    ),
    "limit": _option(int | None, "Only the first images.", _RUN),
    "workers": _option(int, "Threads that read files; with --runner ray, on each node.", _RUN),
    "timeout": _option(
        float | None, "Seconds a file may take to read: a slower one gets a row, and no score.", _RUN
    ),
}
"""Field of the settings → its option.  The default is the field's own."""

_WORDS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "side": ("auto", lambda word: None if word == "auto" else word),
    "shard": (str(Shard()), Shard.parse),
    "inputs": (inspect.Parameter.empty, tuple),
}
"""Fields that are not said as they are kept: the word that stands for the default, and word → value."""


def takes(**settings: type | tuple[type, tuple[str, ...]]) -> Callable[[Callable[..., Any]], Any]:
    """Let a command take settings, and a person the option of each of their fields.

    Args:
        settings: the command's parameter → a settings class, or with it the names of the fields that are
            options here; the others keep their defaults.
    """
    wanted = {name: given if isinstance(given, tuple) else (given, None) for name, given in settings.items()}

    def decorate(command: Callable[..., Any]) -> Any:
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for name, own in inspect.signature(command).parameters.items():
            if name in wanted:
                parameters += [_parameter(field) for field in _fields(*wanted[name])]
            else:
                parameters.append(own.replace(kind=own.KEYWORD_ONLY, annotation=hints[name]))

        @wraps(command)
        def run(**given: Any) -> Any:
            made = {}
            for name, (kind, names) in wanted.items():
                chosen = {field.name: given.pop(field.name) for field in _fields(kind, names)}
                made[name] = kind(**{key: _value(key, word) for key, word in chosen.items()})
            return command(**made, **given)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _fields(kind: Any, names: tuple[str, ...] | None) -> list[Field[Any]]:
    return [field for field in fields(kind) if names is None or field.name in names]


def _parameter(field: Field[Any]) -> inspect.Parameter:
    if field.name in _WORDS:
        default = _WORDS[field.name][0]
    else:
        default = field.default if field.default_factory is MISSING else field.default_factory()
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=OPTIONS[field.name]
    )


def _value(name: str, word: Any) -> Any:
    return _WORDS[name][1](word) if name in _WORDS else word
