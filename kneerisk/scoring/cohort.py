"""Where the rooms meet: a stack's networks, the readers of radiographs and the chain become one call."""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from kneerisk.compile.choice import Choice, resolve
from kneerisk.compile.open import forward_pass, open_network, open_networks
from kneerisk.errors import ExitCode, UsageError
from kneerisk.method.calibration import Calibration
from kneerisk.method.predict import ForecastSettings, StackPredictor
from kneerisk.method.recalibration import Recalibration
from kneerisk.places.place import is_remote, place, url_of
from kneerisk.radiograph import knees
from kneerisk.radiograph.settings import InputSettings
from kneerisk.records import KneeCrop, Radiograph, RadiographRef, Refusal
from kneerisk.scoring.chain import (
    Item,
    Knee,
    Known,
    Localise,
    Notice,
    Rooms,
    Scorer,
    Walk,
    locate,
    source_path_of,
)
from kneerisk.scoring.clock import Clock, Pace
from kneerisk.scoring.outputs import table
from kneerisk.scoring.outputs.dicom.common import check_installed
from kneerisk.scoring.outputs.run_report import write_run_report
from kneerisk.scoring.outputs.summary import Summary
from kneerisk.scoring.pseudonyms import Pseudonyms
from kneerisk.scoring.run import Progress, score_images
from kneerisk.scoring.settings import RunSettings, StackSettings, check_places, fingerprint, shareable
from kneerisk.scoring.spread import NodeWork, Spread, open_spread
from kneerisk.scoring.stores.tables import at_home, send
from kneerisk.scoring.watch import WatchSettings, watch_images
from kneerisk.stack.components import PREDICTING
from kneerisk.stack.stack import Stack
from kneerisk.storage import StorageError
from kneerisk.version import __version__

if TYPE_CHECKING:
    import polars as pl

    from kneerisk.stack.description import StackDescription

log = logging.getLogger(__name__)

_PATHS = frozenset(
    {"previews", "futures", "run_report", "pseudonymise", "calibration", "dicom_sr", "dicom_sc"}
)
_HEADLINE = "risk_12m"
_PARALLEL = 2
"""Calls of a network at once, on a CPU: while one waits (for memory, for a layer's end) another computes."""


def score_cohort(
    inputs: InputSettings, networks: StackSettings, run: RunSettings
) -> Iterator[Notice | Progress | Summary]:
    """Score a cohort into ``run.out``: yields progress, perhaps a notice before it, and last the summary.

    Raises:
        UsageError, StackError, NoEngineError: before anything is scored.
        StoppedOnErrorError: see :func:`kneerisk.scoring.run.score_images`.
    """
    check_places(inputs, run)
    pseudonyms = None if run.pseudonymise is None else Pseudonyms.read(run.pseudonymise)
    if run.dicom_sr is not None or run.dicom_sc is not None:
        check_installed()
    if is_remote(run.out):
        yield from _score_and_send(inputs, networks, run)
        return
    clock = Clock()
    images, skipped = knees.list_images(inputs)
    with ExitStack() as resources:
        with clock.stage("load"):
            scorer = resources.enter_context(_open_scorer(inputs, networks, run, clock, pseudonyms))
        marks = fingerprint(inputs, run, scorer.provenance, scorer.recalibration)
        if pseudonyms is not None:
            marks = {**pseudonyms.settings(shareable(marks)), "pseudonyms": pseudonyms.fingerprint}
        whose = knees.look_on(inputs)
        doubt, pace = None, Pace()
        listed = whose.watch(images)
        for step in score_images(listed, skipped.counts, scorer, run, marks, clock, skipped.carried):
            if doubt is None and (doubt := whose.doubt()) is not None:
                yield Notice(doubt)
            if isinstance(step, Progress) and (slow := pace.note(step.done - step.reused)) is not None:
                yield Notice(slow)
            if isinstance(step, Summary) and run.run_report is not None:
                try:
                    write_run_report(run.run_report, shareable(marks), step, pace.rates)
                except StorageError as error:
                    raise StorageError(
                        f"{error}; the table {run.out} is whole: repeat with --resume"
                    ) from error
            yield step


def _score_and_send(
    inputs: InputSettings, networks: StackSettings, run: RunSettings
) -> Iterator[Notice | Progress | Summary]:
    """Score into a table of the same name in the working folder, and put it in its store when it is whole."""
    with at_home(run) as here:
        for step in score_cohort(inputs, networks, here):
            if isinstance(step, Summary):
                if step.images:
                    send(here.out, run.out)
                step = replace(step, out=url_of(run.out))
            yield step


def watch_cohort(
    inputs: InputSettings, networks: StackSettings, run: RunSettings, watch: WatchSettings, stop: Event
) -> Iterator[Summary]:
    """Score what arrives, the networks opened once: see :func:`kneerisk.scoring.watch.watch_images`."""
    asked = run.dicom_sr is not None or run.dicom_sc is not None
    if asked:
        check_installed()
    if watch.send is not None and not asked:
        raise UsageError("--send stores reports and captures: name their folders by --dicom-sr or --dicom-sc")
    send = None if watch.send is None else partial(_store, watch.send)
    with open_rooms(inputs, networks, run, Clock()) as rooms:
        yield from watch_images(
            lambda: knees.list_images(inputs, may_be_empty=True)[0],
            *(rooms, run, watch, lambda part: fingerprint(inputs, part, rooms.provenance), stop, send),
        )


def _store(server: Path, files: list[Path]) -> None:
    from kneerisk.places.dicomweb import store

    store(files, server)


def score_frame(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> pl.DataFrame:
    """See :func:`kneerisk.score`."""
    import tempfile

    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    rest = dict(options)
    data = InputSettings(tuple(Path(path) for path in given), **_take(rest, InputSettings))
    networks = StackSettings(**_take(rest, StackSettings))
    kept: dict[str, Any] = {
        key: Path(value) if key in _PATHS and value else value
        for key, value in _take(rest, RunSettings).items()
    }
    if rest:
        raise TypeError(f"score() has no option {', '.join(sorted(rest))}")
    with tempfile.TemporaryDirectory() as scratch:
        asked = Path(scratch, "risks.parquet") if out is None else place(out)
        run = RunSettings(asked, **kept)
        last: Notice | Progress | Summary | None = None
        with at_home(run) if is_remote(asked) else nullcontext(run) as here:
            for last in score_cohort(data, networks, here):
                if isinstance(last, Notice):
                    warnings.warn(last.message, stacklevel=3)
            if not (isinstance(last, Summary) and last.images):
                return table.frame([])
            found = table.read(here.out)
            if is_remote(asked):
                send(here.out, asked)
            return found


def _take(options: dict[str, Any], settings: type) -> dict[str, Any]:
    """The options that a settings class knows, taken out of ``options``."""
    known = {f.name for f in fields(settings)} - {"inputs", "out"}
    return {name: options.pop(name) for name in list(options) if name in known}


@contextmanager
def open_rooms(
    inputs: InputSettings, networks: StackSettings, run: RunSettings, clock: Clock
) -> Iterator[Rooms]:
    """Everything the chain needs, its networks open."""
    stack = Stack.load(networks.stack)
    recalibration = recalibration_for(run.calibration, stack.name)
    settings = _forecast_settings(stack.description, networks)
    wants_pictures = _wants_pictures(run)
    names = ("localiser", *PREDICTING, *["decoder"] * wants_pictures)
    choice = _choice(stack, names, networks)
    log.info("--backend %s: %s, because %s", networks.backend, choice.backend, choice.why)
    calibration = Calibration.from_mapping(stack.calibration())
    parallel = min(_PARALLEL, os.cpu_count() or 1)
    with (
        knees.readers(inputs, run.timeout) as read,
        open_networks(
            *(stack, names, choice.backend, networks.precision), device=choice.device, parallel=parallel
        ) as runners,
    ):
        predictor = StackPredictor(
            forward_pass(stack.description, runners, clock.stage),
            settings,
            novelty_threshold=calibration.novelty_threshold,
            crop_size=stack.description.crop_size,
            keep_latents=wants_pictures,
        )
        unet = runners["unet"]  # the encoder may keep to fp32 whatever is asked
        yield Rooms(
            read=read,
            localise=knees.localiser(runners["localiser"], inputs.invert),
            predictor=predictor,
            parallel=min(runner.parallel for runner in runners.values()),
            calibration=calibration,
            recalibration=recalibration,
            origin=knees.origin_of,
            provenance={
                "stack": stack.name,
                "stack_sha256": stack.sha256,
                "backend": unet.backend,
                "precision": unet.precision,
                "engine_key": unet.engine_key,
                "seed": settings.seed,
                "steps": settings.steps,
                "samples": settings.samples,
                "upscale": settings.upscale,
                "kneerisk_version": __version__,
            },
        )


@contextmanager
def _open_scorer(
    inputs: InputSettings, networks: StackSettings, run: RunSettings, clock: Clock, hidden: Pseudonyms | None
) -> Iterator[Scorer]:
    """The rooms of this machine, or with ``--runner ray`` those of a cluster's nodes."""
    if run.runner == "ray":
        with _open_cluster(inputs, networks, run, hidden) as spread:
            yield spread
        return
    with open_rooms(inputs, networks, run, clock) as rooms:
        yield rooms if hidden is None else replace(rooms, hide=hidden.knee)


@contextmanager
def _open_cluster(
    inputs: InputSettings, networks: StackSettings, run: RunSettings, hidden: Pseudonyms | None
) -> Iterator[Spread]:
    """Every node opens the stack as this machine would, and must find the same one."""
    if networks.device not in (None, "cpu", "cuda", "cuda:0"):
        raise UsageError(
            f"--device {networks.device}: with --runner ray, Ray shares the GPUs out: leave it out"
        )
    stack = Stack.load(networks.stack)
    recalibration = recalibration_for(run.calibration, stack.name)
    _forecast_settings(stack.description, networks)  # what cannot be is to be known at once
    if Path(networks.stack).is_dir():
        networks = replace(networks, stack=str(Path(networks.stack).absolute()))
    work = NodeWork(
        partial(open_rooms, inputs, networks, replace(run, calibration=None)),
        Walk(run.workers, run.timeout, run.batch_size),
        pictures=_wants_pictures(run),
        recalibration=recalibration,
        hidden=hidden,
    )
    expected = {"kneerisk_version": __version__, "stack_sha256": stack.sha256}
    gpus = networks.backend != "cpu" and networks.device != "cpu"
    calibration = Calibration.from_mapping(stack.calibration())
    with open_spread(run.ray_address, work, expected, calibration, knees.origin_of, gpus=gpus) as spread:
        yield spread


def _wants_pictures(run: RunSettings) -> bool:
    return any(wanted is not None for wanted in (run.previews, run.futures, run.dicom_sc))


def _choice(stack: Stack, names: Sequence[str], networks: StackSettings) -> Choice:
    return resolve(
        *(stack, names, networks.backend, networks.precision),
        device=networks.device,
        policy=networks.engine_policy,
    )


def recalibration_for(path: Path | None, stack: str) -> Recalibration | None:
    """The map that ``--calibration`` names, made for the risk that a stack's run writes.

    Raises:
        UsageError: the file is no calibration, is for another column, or was fitted to another stack's risks.
    """
    if path is None:
        return None
    found = Recalibration.load(path)
    if found.column != _HEADLINE:
        raise UsageError(
            f"--calibration {path}: it is for {found.column}, and score writes {_HEADLINE}: score without "
            "it, then kneerisk derive --calibration"
        )
    if found.stack != stack:
        raise UsageError(
            f"--calibration {path}: it maps risks of {found.stack or 'several stacks'}, and this run's are "
            f"of {stack}: fit it again (kneerisk calibrate) to a table of {stack}"
        )
    if found.conformal is not None:
        log.warning(
            "--calibration %s: its sets of KL grades are not written by score; score without it, then "
            "kneerisk derive --calibration adds them as kl_now_set",
            path,
        )
    return found


def _forecast_settings(description: StackDescription, networks: StackSettings) -> ForecastSettings:
    if networks.upscale and not description.upscales:
        raise UsageError(
            f"--upscale: the stack {description.name} was not trained on upscaled crops, and grades them "
            "wrongly (compact's accuracy on val falls from 0.69 to 0.40): leave it out, or take one that was"
        )
    return ForecastSettings(
        steps=networks.steps or description.steps,
        samples=networks.samples or description.samples,
        seed=networks.seed,
        upscale=networks.upscale,
    )


@dataclass(slots=True)
class Validation:
    """What would be scored, refused, and why."""

    images: int = 0
    """Files, however many rows of a manifest name each."""
    knees: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    qc_flags: Counter[str] = field(default_factory=Counter)
    doubt: str | None = None
    """Why the images may not be told apart by their participants."""
    without_spacing: int = 0
    without_participant: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    """(source path, reason, message) of each refusal and failure."""

    @property
    def exit_code(self) -> ExitCode:
        """As ``score`` would end."""
        if self.knees == 0:
            return ExitCode.NOTHING_SCORABLE
        return ExitCode.PARTIAL if self.reasons else ExitCode.OK

    def add(self, knee: KneeCrop | Refusal) -> None:
        """Count one knee or refusal."""
        self.qc_flags.update(knee.qc_flags)
        if isinstance(knee, Refusal):
            self.reasons[str(knee.reason)] += 1
            self.problems.append((knee.ref.source_path, str(knee.reason), knee.message))
            return
        self.knees += 1
        self.without_spacing += knee.spacing_mm is None
        self.without_participant += knee.participant_id is None


def validate_cohort(inputs: InputSettings, networks: StackSettings, run: RunSettings) -> Iterator[Validation]:
    """Walk a cohort as ``score`` would, up to its knees; yields the count as it grows. Nothing is written."""
    images, skipped = knees.list_images(inputs)
    stack = Stack.load(networks.stack)
    recalibration_for(run.calibration, stack.name)
    choice = Choice("cpu", "cpu", "to find knees needs no GPU")
    if (networks.backend, networks.device, networks.engine_policy) != ("auto", None, None):
        choice = _choice(stack, ("localiser",), networks)
    with (
        knees.readers(inputs, run.timeout) as read,
        open_network(stack, "localiser", choice.backend, networks.precision, device=choice.device) as network,
    ):
        localise = knees.localiser(network, inputs.invert)
        whose = knees.look_on(inputs)
        for found in validate_images(whose.watch(images), skipped.counts, read, localise, run):
            found.doubt = whose.doubt()
            yield found


def validate_images(
    images: Iterator[Item],
    skipped: Mapping[str, int],
    read: Callable[[RadiographRef], Radiograph | Refusal],
    localise: Localise,
    run: RunSettings,
) -> Iterator[Validation]:
    """Read and localise each image of ``run``'s shard; the same object is yielded after each."""
    found = Validation(skipped=skipped)
    ours = ((i, item) for i, item in enumerate(images) if run.shard.holds(source_path_of(item)))
    limited = (pair for pair, _ in zip(ours, range(run.limit), strict=False)) if run.limit else ours
    walk = Walk(run.workers, run.timeout, run.batch_size)
    before = None
    for image in locate(limited, read, localise, walk, Clock()):
        if isinstance(image, Known):
            continue
        found.images += image.ref.path != before
        before = image.ref.path
        for knee in image.knees:
            found.add(knee.crop if isinstance(knee, Knee) else knee)
        yield found
    yield found
