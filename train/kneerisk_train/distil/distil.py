"""Distillation: a U-Net that forecasts in one or two calls what a published stack's does in many.

The teacher's sampler is deterministic once its noise is drawn, and scoring starts every knee from the same
noise unless told otherwise.  From that noise the teacher's outcomes are a function of the current latent,
which a student learns by regression (arXiv 2101.02388).  Beside the latent it learns what the stack's later
classifier reads off it, because the risk is what has to stay.  The student is a U-Net like its teacher,
starts from the teacher's weights, and is sampled by the very same sampler in one or two steps.  A published
stack holds both (see :meth:`kneerisk.stack.stack.StackDescription.usual_steps` for which forecasts when).
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from kneerisk.errors import UsageError
from kneerisk.method.diffusion import alpha_sigma, draw_noise, sampling_times
from kneerisk.method.exposure import equalise
from kneerisk.models.classifier import Classifier
from kneerisk.models.unet import UNet
from kneerisk.stack.stack import DISTILLED, Stack
from kneerisk.stack.write import revise_stack, write_stack
from kneerisk_train.data.augment import augment
from kneerisk_train.data.coding import VIEW, Radiograph, load_arrays, save_arrays, view_rng
from kneerisk_train.distil.fidelity import (
    REFERENCE_STEPS,
    Judge,
    module_of,
    modules_of,
    open_networks,
    table_of_steps,
)
from kneerisk_train.publish.forecast import Array
from kneerisk_train.publish.publish import calibrate
from kneerisk_train.run.loop import Batch, Stage, dataclass_values, fit
from kneerisk_train.run.recipe import DistilStage
from kneerisk_train.run.session import Session, fingerprint
from kneerisk_train.stages.losses import landmark_loss

log = logging.getLogger(__name__)

NAME = "distilled"
_LESSONS_FILE = "lessons.npz"
_SCORING_SEED = 0
_LEAST = 1e-6


@dataclass(frozen=True)
class Lessons:
    """What the teacher forecasts for N knees in V views."""

    current: npt.NDArray[np.float16]
    """[N, V, C, h, w]."""
    future: npt.NDArray[np.float16]
    """[N, V, C, h, w]: from the noise that scoring gives every knee unless told otherwise."""
    grade: npt.NDArray[np.float32]
    """[N, V, 5]: P(KL) that the stack's later classifier reads off the future."""
    landmarks: npt.NDArray[np.float32]
    """[N, V, 16, 2], read likewise, in crop pixels."""


class Student(nn.Module):
    """A U-Net that forecasts in few steps; a classifier that reads its and the teacher's forecasts alike."""

    def __init__(self, unet: UNet, classifier: Classifier, steps: int):
        super().__init__()
        self.unet = unet
        self.classifier = classifier
        self.steps = steps

    def train(self, mode: bool = True) -> Student:
        """The classifier keeps its norms' statistics and drops nothing out: its answers are compared."""
        super().train(mode)
        self.classifier.eval()
        return self

    def forecast(self, noise: Tensor, current: Tensor) -> Tensor:
        """Latents twelve months on, float32 [B, C, h, w]."""
        return few_steps(self.unet, noise, current, self.steps)

    def forward(self, noise: Tensor, current: Tensor, future: Tensor) -> Reading:
        """Forecast, and read the forecast and the teacher's ``future``, all latents [B, C, h, w]."""
        forecast = self.forecast(noise, current)
        grade, landmarks = self.classifier(forecast)
        return Reading(forecast, grade, landmarks, self.classifier.posterior(future))


class Reading(NamedTuple):
    """What a student says of B knees."""

    forecast: Tensor
    """[B, C, h, w]."""
    grade: Tensor
    """[B, 5]: P(KL) of its own forecast."""
    landmarks: Tensor
    """[B, 16, 2] of its own forecast, in crop pixels."""
    teachers_grade: Tensor
    """[B, 5]: P(KL) of the teacher's forecast."""


def train(session: Session) -> Student:
    """Distil the stack that the session starts from; returns the student's averaged weights.

    Four things are learnt at once: the teacher's latent; to read the same grades off the student's forecast
    as off the teacher's (the U-Net learns what matters to a grade, the classifier not to mind what does not);
    to read off the teacher's forecast what the published classifier reads; and its landmarks.

    Raises:
        UsageError: there is no stack to distil, the recipe has no such stage, or the sizes differ.
    """
    stack, config = teacher_of(session)
    lessons = open_lessons(session, stack, config)
    student = new_student(stack, config)
    knees, views = lessons.current.shape[:2]
    noise = torch.from_numpy(_scoring_noise(lessons.current.shape[2:]))

    def batch(step: int, rng: np.random.Generator) -> Batch:
        size = config.optim.batch_size
        chosen = rng.integers(knees, size=size), rng.integers(views, size=size)
        current, future = (
            torch.from_numpy(latents[chosen].astype(np.float32)).contiguous(memory_format=torch.channels_last)
            for latents in (lessons.current, lessons.future)
        )
        read = (torch.from_numpy(array[chosen]) for array in (lessons.grade, lessons.landmarks))
        return noise.expand_as(current), current, future, *read

    def terms(training: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        noise, current, future, grade, landmarks = arrays
        said = training(noise, current, future)
        return {
            "latent": F.mse_loss(said.forecast, future),
            "grade": config.grade_weight * _divergence(said.teachers_grade, said.grade),
            "risk": config.risk_weight * _cumulative_error(said.teachers_grade, said.grade),
            "kept": config.kept_weight * _divergence(grade, said.teachers_grade),
            "landmarks": config.landmark_weight
            * landmark_loss(said.landmarks, landmarks, stack.description.crop_size),
        }

    judge = Judge.of(session, stack)
    stage = Stage(
        name=NAME,
        module=student,
        optim=config.optim,
        batch=batch,
        terms=terms,
        figures=lambda average: _figures(judge, average),
        figures_every=config.figures_every,
    )
    trained = fit(session, stage)
    assert isinstance(trained, Student)
    return trained


def new_student(stack: Stack, config: DistilStage) -> Student:
    """One that starts from the stack's own student, or else from its U-Net; and its later classifier."""
    known = DISTILLED if DISTILLED in stack.description.components else "unet"
    unet, classifier = module_of(stack, known), module_of(stack, "classifier_12m")
    assert isinstance(unet, UNet) and isinstance(classifier, Classifier)
    return Student(unet, classifier, config.steps)


def _figures(judge: Judge, average: nn.Module) -> dict[str, float]:
    assert isinstance(average, Student)
    return judge.figures(average.forecast, average.classifier)


def _divergence(wanted: Tensor, found: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of distributions [B, 5] from the wanted ones."""
    wanted, found = (p.float().clamp_min(_LEAST) for p in (wanted, found))
    return (wanted * (wanted.log() - found.log())).sum(dim=1).mean()


def _cumulative_error(wanted: Tensor, found: Tensor) -> Tensor:
    """Mean squared error of P(grade > k), summed over k, of distributions [B, 5].

    Unlike the divergence it does not grow where a chance is small: it minds what moves a risk, wherever.
    """
    apart = (wanted.float() - found.float()).cumsum(dim=1)
    return apart.square().sum(dim=1).mean()


def teacher_of(session: Session) -> tuple[Stack, DistilStage]:
    """The stack to distil and how.

    Raises:
        UsageError: as :func:`train`.
    """
    stack, config = session.initial, session.recipe.distil
    if stack is None:
        raise UsageError("distilling needs a published stack to learn from: name it with --stack")
    if config is None:
        raise UsageError(
            f"the recipe {session.recipe.name} has no section distil: take compact or reference, or add one "
            "(distil: {optim: {steps: 1500}})"
        )
    if stack.description.crop_size != session.recipe.crop_size:
        raise UsageError(
            f"{stack.name} sees crops of {stack.description.crop_size} px, the recipe makes "
            f"{session.recipe.crop_size}: take a recipe of the stack's crop_size"
        )
    if config.steps >= (steps := stack.description.steps):
        raise UsageError(
            f"{stack.name} forecasts in {steps} steps as it is: a student of {config.steps} saves none"
        )
    return stack, config


def few_steps(unet: nn.Module, noise: Tensor, current: Tensor, steps: int) -> Tensor:
    """Forecasts float32 [B, C, h, w] from noise and current latents of that shape, with gradients.

    :func:`kneerisk.method.diffusion.sample` in torch for 1 or 2 steps: then all are of first order.
    """
    state = noise
    for time, following in pairwise(sampling_times(steps)):
        (alpha, sigma), (alpha_next, sigma_next) = alpha_sigma(time), alpha_sigma(following)
        v: Tensor = unet(state, current, torch.full((len(state),), time, device=state.device)).float()
        clean = alpha * state - sigma * v
        if following == 0.0:
            return clean
        noise_seen = sigma * state + alpha * v
        state = alpha_next * clean + sigma_next * noise_seen
    raise AssertionError("the last time is 0")


def _scoring_noise(shape: tuple[int, ...]) -> Array:
    """What scoring starts every knee from unless told otherwise, float32 [1, C, h, w]."""
    return draw_noise(_SCORING_SEED, 1, shape)


def open_lessons(session: Session, stack: Stack, config: DistilStage) -> Lessons:
    """The teacher's forecasts of the training knees; made once a run (``lessons.npz``)."""
    path = session.out / _LESSONS_FILE
    knees, seed = session.data.knees["train"], session.recipe.seed
    purpose = fingerprint(seed, session.data.splits_sha256, stack.sha256, config.teacher_steps, config.views)

    def seen(index: int, view: int) -> Radiograph:
        if view == 0:
            return equalise(knees.pixels[index].astype(np.uint16))
        rng = view_rng(seed, knees, index, view)
        return augment(knees.pixels[index], knees.landmarks[index], VIEW, rng)[0]

    def make() -> Lessons:
        log.info(
            "%s forecasts %d knees in %d views each in %d steps",
            *(stack.name, len(knees), config.views, config.teacher_steps),
        )
        made: list[tuple[npt.NDArray[Any], ...]] = []
        with open_networks(stack, session) as networks:
            for start in range(0, len(knees), 64):
                part = range(start, min(start + 64, len(knees)))
                looks = [(index, view) for index in part for view in range(config.views)]
                crops = np.stack([seen(*look) for look in looks])[:, None]
                current = networks.run("encoder", {"radiograph": crops})["latent"]
                future = networks.future(current, config.teacher_steps, _SCORING_SEED)
                read = networks.run("classifier_12m", {"latent": future})
                latents = current.astype(np.float16), future.astype(np.float16)
                made.append((*latents, read["kl"], read["landmarks"]))
                log.info("forecast %d of %d knees", part.stop, len(knees))
        arrays = [
            np.concatenate(parts).reshape(len(knees), config.views, *parts[0].shape[1:])
            for parts in zip(*made, strict=True)
        ]
        return Lessons(*arrays)

    if session.fabric.is_global_zero and load_arrays(path, Lessons, purpose) is None:
        save_arrays(path, make(), purpose)
    session.fabric.barrier()
    lessons = load_arrays(path, Lessons, purpose)
    assert isinstance(lessons, Lessons)
    return lessons


def publish_student(session: Session, student: Student, folder: Path, *, overwrite: bool = False) -> Stack:
    """The teacher's stack with the student beside its U-Net, calibrated anew on val and measured.

    The student's classifier takes the place of the stack's later one: it reads both U-Nets' forecasts.  The
    student is what scoring takes unless asked otherwise where it holds ``usual_below``; else it is there for
    those who ask for its steps.  A cohort without grades keeps the teacher's calibration.

    Args:
        session: that the student was trained in.
        student: the averaged weights.
        folder: where the stack goes.
        overwrite: replace one that is there.
    """
    teacher, config = teacher_of(session)
    student = student.cpu()
    taught = {DISTILLED: student.unet, "classifier_12m": student.classifier}
    modules = {**modules_of(teacher), **taught}
    unet = teacher.component("unet")
    components = dict(teacher.description.components)
    components[DISTILLED] = replace(unet, spec=replace(unet.spec, name=DISTILLED))
    training = yaml.safe_dump(
        {
            "distilled_from": {"stack": teacher.name, "sha256": teacher.sha256},
            "recipe": dataclass_values(session.recipe)["distil"],
            "data": session.data.provenance,
            "splits_sha256": session.data.splits_sha256,
        },
        sort_keys=False,
    )
    stack = write_stack(
        folder,
        replace(
            teacher.description,
            name=folder.name.replace(".", "-"),
            components=components,
            distilled_steps=config.steps,
            usual_forecaster="unet",
        ),
        modules,
        calibration=teacher.calibration(),
        model_card=teacher.model_card(),
        training=training,
        overwrite=overwrite,
    )
    rows = table_of_steps(session, stack)
    (session.out / "steps.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    apart = next(row["risk_p99"] for row in rows if (row["sampled_by"], row["seed"]) == (DISTILLED, 0))
    near = apart < config.usual_below
    log.info("p99 |Δ raw risk| %.4f: scoring %s the student by default", apart, "takes" if near else "leaves")
    stack = revise_stack(stack, usual_forecaster=DISTILLED if near else "unet")
    if all((session.data.knees["val"].grade == grade).any() for grade in range(4)):
        stack = calibrate(stack, session)
    return revise_stack(
        stack, model_card=with_section(teacher.model_card(), _card(teacher, rows, usual=near))
    )


def with_section(card: str, section: str) -> str:
    """A model card that ends in ``section``, in place of an earlier one of the same heading at its end."""
    heading = section.splitlines()[0]
    before = f"\n{card}".split(f"\n{heading}\n")[0]
    return f"{before.strip()}\n\n{section}\n"


def _card(teacher: Stack, rows: list[dict[str, Any]], *, usual: bool) -> str:
    """The table of steps as a section of a model card."""
    taken = (
        "With one sampled future a knee and seed 0 scoring takes it, else the U-Net itself."
        if usual
        else "Scoring takes it where its number of steps is asked for, else the U-Net itself."
    )
    lines = [
        "## Fewer steps",
        "",
        f"`{DISTILLED}` is a student of {teacher.name}'s U-Net, taught from seed 0's first noise. {taken}",
        f"Val knees, against {REFERENCE_STEPS} steps of the U-Net, same noise (seed 1's was in no lesson):",
        "",
        "| sampled by | steps | seed | abs. change of raw risk p50 / p99 / max | KL at 12 months changed | "
        "picture PSNR, dB | AUC change |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        auc = "too few rises" if row["auc_change"] is None else f"{row['auc_change']:+.4f}"
        lines.append(
            f"| {row['sampled_by']} | {row['steps']} | {row['seed']} | {row['risk_p50']:.4f} / "
            f"{row['risk_p99']:.4f} / {row['risk_max']:.4f} | {row['kl_12m_changed']:.1%} | "
            f"{row['psnr_db']} | {auc} |"
        )
    return "\n".join(lines)
