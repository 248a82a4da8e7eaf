"""Distillation: a U-Net that forecasts in one or two calls what a published stack's does in many.

The teacher's sampler is deterministic once its noise is drawn, so its outcomes can be learnt by regression
from noise and current latent (arXiv 2101.02388).  Beside the latent the student learns what the stack's
later classifier reads off it, because the risk is what has to stay.  The student is a U-Net like its
teacher, starts from the teacher's weights, and is sampled by the very same sampler in one or two steps.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from kneerisk.diffusion import alpha_sigma, draw_noise, sample
from kneerisk.errors import UsageError
from kneerisk.models.unet import UNet
from kneerisk.stack import Stack
from kneerisk.stack_write import revise_stack, write_stack
from train.coding import load_arrays, save_arrays
from train.fidelity import REFERENCE_STEPS, Judge, module_of, modules_of, open_networks, table_of_steps
from train.loop import Batch, Stage, channels_last, dataclass_values, fit, seed_of
from train.publish import calibrate
from train.recipe import DistilStage
from train.session import Session, fingerprint

log = logging.getLogger(__name__)

NAME = "distilled"
_LESSONS_FILE = "lessons.npz"
_SCORING_SEED = 0


@dataclass(frozen=True)
class Lessons:
    """What the teacher forecasts for N knees from M noises each."""

    current: npt.NDArray[np.float16]
    """[N, C, h, w]."""
    future: npt.NDArray[np.float16]
    """[N, M, C, h, w]: from the noise that :func:`lesson_noise` draws."""


def lesson_noise(seed: int, knee: int, number: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The noise float32 [C, h, w] of one lesson of a knee.

    Lesson 0 starts from the noise that scoring gives every knee unless told otherwise, so that the student
    is best where it is used most; every other lesson from a noise of its own, so that other seeds serve too.
    """
    drawn_from = _SCORING_SEED if number == 0 else seed_of(seed, NAME, knee, number)
    noise: npt.NDArray[np.float32] = draw_noise(drawn_from, 1, shape)[0]
    return noise


def train(session: Session) -> UNet:
    """Distil the stack that the session starts from; returns the student's averaged weights.

    Raises:
        UsageError: there is no stack to distil, the recipe has no such stage, or the sizes differ.
    """
    stack, config = teacher_of(session)
    lessons = open_lessons(session, stack, config)
    student, classifier = (module_of(stack, name) for name in ("unet", "classifier_12m"))
    assert isinstance(student, UNet)
    classifier = channels_last(classifier).to(session.device).eval().requires_grad_(False)
    knees, noises = lessons.future.shape[:2]
    shape = lessons.current.shape[1:]
    seed = session.recipe.seed

    def batch(step: int, rng: np.random.Generator) -> Batch:
        pairs = [
            (int(knee), int(rng.integers(noises)))
            for knee in rng.integers(knees, size=config.optim.batch_size)
        ]
        noise = np.stack([lesson_noise(seed, knee, number, shape) for knee, number in pairs])
        current = np.stack([lessons.current[knee] for knee, _ in pairs]).astype(np.float32)
        future = np.stack([lessons.future[pair] for pair in pairs]).astype(np.float32)
        return torch.from_numpy(noise), torch.from_numpy(current), torch.from_numpy(future)

    def terms(training: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        noise, current, future = arrays
        forecast = few_steps(training, noise, current, config.steps)
        with torch.no_grad():
            wanted = classifier(future)[0].float().clamp_min(1e-6)
        read = classifier(forecast)[0].float().clamp_min(1e-6)
        apart = (wanted * (wanted.log() - read.log())).sum(dim=1).mean()
        return {"latent": F.mse_loss(forecast, future), "grade": config.grade_weight * apart}

    judge = Judge.of(session, stack)
    stage = Stage(
        name=NAME,
        module=student,
        optim=config.optim,
        batch=batch,
        terms=terms,
        figures=lambda average: judge.figures(
            lambda noise, current: few_steps(average, noise, current, config.steps)
        ),
        figures_every=config.figures_every,
    )
    trained = fit(session, stage)
    assert isinstance(trained, UNet)
    return trained


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
    return stack, config


def few_steps(unet: nn.Module, noise: Tensor, current: Tensor, steps: int) -> Tensor:
    """Forecasts float32 [B, C, h, w] from noise and current latents of that shape, with gradients.

    :func:`kneerisk.diffusion.sample` in torch, for 1 or 2 steps: then all its steps are of first order.
    """
    state = noise
    for time, following in pairwise([1.0, 0.5, 0.0] if steps == 2 else [1.0, 0.0]):
        (alpha, sigma), (alpha_next, sigma_next) = alpha_sigma(time), alpha_sigma(following)
        v: Tensor = unet(state, current, torch.full((len(state),), time, device=state.device)).float()
        clean = alpha * state - sigma * v
        if following == 0.0:
            return clean
        noise_seen = sigma * state + alpha * v
        state = alpha_next * clean + sigma_next * noise_seen
    raise AssertionError("the last time is 0")


def open_lessons(session: Session, stack: Stack, config: DistilStage) -> Lessons:
    """The teacher's forecasts of the training knees; made once a run (``lessons.npz``)."""
    path = session.out / _LESSONS_FILE
    seed = session.recipe.seed
    purpose = fingerprint(
        seed, session.data.splits_sha256, stack.sha256, config.teacher_steps, config.futures_a_knee
    )

    def make() -> Lessons:
        knees = session.data.knees["train"]
        log.info(
            "%s forecasts %d knees from %d noises each in %d steps",
            *(stack.name, len(knees), config.futures_a_knee, config.teacher_steps),
        )
        with open_networks(stack, session) as networks:
            current = networks.encode(knees.pixels)["latent"]
            future = np.empty((len(current), config.futures_a_knee, *current.shape[1:]), np.float16)
            for start in range(0, len(current), 256):
                part = current[start : start + 256]
                for number in range(config.futures_a_knee):
                    noise = np.stack(
                        [lesson_noise(seed, start + i, number, current.shape[1:]) for i in range(len(part))]
                    )
                    forecast = sample(networks.velocity, part, noise, config.teacher_steps)
                    future[start : start + len(part), number] = forecast
                log.info("forecast %d of %d knees", start + len(part), len(current))
        return Lessons(current.astype(np.float16), future)

    if session.fabric.is_global_zero and load_arrays(path, Lessons, purpose) is None:
        save_arrays(path, make(), purpose)
    session.fabric.barrier()
    lessons = load_arrays(path, Lessons, purpose)
    assert isinstance(lessons, Lessons)
    return lessons


def publish_student(session: Session, student: nn.Module, folder: Path, *, overwrite: bool = False) -> Stack:
    """The teacher's stack with the student for its U-Net, calibrated anew on val and measured.

    A cohort without grades keeps the teacher's calibration.

    Args:
        session: that the student was trained in.
        student: the averaged weights.
        folder: where the stack goes.
        overwrite: replace one that is there.
    """
    teacher, config = teacher_of(session)
    modules = {**modules_of(teacher), "unet": student.cpu()}
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
        replace(teacher.description, name=folder.name.replace(".", "-"), steps=config.steps),
        modules,
        calibration=teacher.calibration(),
        model_card=teacher.model_card(),
        training=training,
        overwrite=overwrite,
    )
    if all((session.data.knees["val"].grade == grade).any() for grade in range(4)):
        stack = calibrate(stack, session)
    rows = table_of_steps(session, teacher, stack)
    (session.out / "steps.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return revise_stack(stack, model_card=f"{teacher.model_card().rstrip()}\n\n{_card(teacher, rows)}\n")


def _card(teacher: Stack, rows: list[dict[str, Any]]) -> str:
    """The table of steps as a section of a model card."""
    lines = [
        "## Fewer steps",
        "",
        f"The U-Net is a student of {teacher.name}'s: it forecasts in few steps. Val knees, against "
        f"{REFERENCE_STEPS} steps of the teacher from the same noise (lessons start from seed 0's in part, "
        "never from seed 1's):",
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
