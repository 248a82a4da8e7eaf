"""How near few sampler steps come to many: risks, grades, pictures and, where knees rise, discrimination."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from kneerisk.method.diffusion import draw_noise
from kneerisk.method.risk import risk_of_rise
from kneerisk.models import build
from kneerisk.stack.stack import Stack
from kneerisk_train.publish.forecast import Networks
from kneerisk_train.run.session import Session
from kneerisk_train.stages.initial import load_initial

log = logging.getLogger(__name__)

REFERENCE_STEPS = 50
"""Of the forecasts that others are held against."""
_JUDGED = 256
"""Val knees, at most, that a training looks at, and pictures that are compared."""


@dataclass(frozen=True)
class Judge:
    """Val knees, and what a stack makes of them in many steps from the noise that scoring draws."""

    current: Tensor
    """[N, C, h, w]."""
    noise: Tensor
    """[N, C, h, w]."""
    future: Tensor
    """[N, C, h, w]."""
    p_now: npt.NDArray[np.float32]
    """[N, 5]."""
    published: npt.NDArray[np.float32]
    """[N, 5]: P(KL) that the stack's own classifier reads off ``future``."""

    @classmethod
    def of(cls, session: Session, stack: Stack) -> Judge:
        """From the first val knees of a session."""
        knees = session.data.knees["val"]
        crops = knees.pixels[:_JUDGED]
        with open_networks(stack, session) as networks:
            current = networks.encode(crops)["latent"]
            p_now = networks.grade(crops, current)["kl"]
            future = networks.future(current, REFERENCE_STEPS)
            published = networks.run("classifier_12m", {"latent": future})["kl"]
        noise = np.repeat(draw_noise(0, 1, current.shape[1:]), len(current), axis=0)
        tensors = [torch.from_numpy(array).to(session.device) for array in (current, noise, future)]
        return cls(tensors[0], tensors[1], tensors[2], p_now, published)

    @torch.no_grad()
    def figures(
        self, forecast_of: Callable[[Tensor, Tensor], Tensor], classifier: nn.Module
    ) -> dict[str, float]:
        """How far the latents and raw risks of (noise, current) → forecast are from the reference's.

        Both are read by ``classifier``; ``kept_p99`` tells how far it moves the reference's risks itself.
        """
        parts = [
            forecast_of(noise, current)
            for noise, current in zip(torch.split(self.noise, 64), torch.split(self.current, 64), strict=True)
        ]
        forecast = torch.cat(parts)
        later, wanted = (
            torch.cat([classifier(z)[0] for z in torch.split(latents, 64)]).float().cpu().numpy()
            for latents in (forecast, self.future)
        )
        apart = compare_risks(self.p_now, later, wanted)
        rmse = float((forecast - self.future).square().mean().sqrt())
        kept = compare_risks(self.p_now, wanted, self.published)["risk_p99"]
        return {"latent_rmse": rmse, **apart, "kept_p99": kept}


def compare_risks(
    p_now: npt.NDArray[np.float32], later: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]
) -> dict[str, float]:
    """|Δ raw risk| (median, 99th percentile, largest) and the share of changed 12-month grades.

    Args:
        p_now: P(KL now) [N, 5].
        later: P(KL at 12 months) [N, 5] of the candidate.
        wanted: of the reference.
    """
    apart = np.abs(risk_of_rise(p_now, later) - risk_of_rise(p_now, wanted))
    return {
        "risk_p50": float(np.quantile(apart, 0.5)),
        "risk_p99": float(np.quantile(apart, 0.99)),
        "risk_max": float(apart.max()),
        "kl_12m_changed": float((later.argmax(axis=1) != wanted.argmax(axis=1)).mean()),
    }


def table_of_steps(
    session: Session, stack: Stack, counts: tuple[int, ...] = (1, 2, 4, 8, 16)
) -> list[dict[str, Any]]:
    """A stack's forecasts in few steps, by its U-Net and by its student, against its U-Net's in many, on val.

    A row for each way to sample.  ``psnr_db`` compares the decoded pictures; ``auc_change`` is the change of
    the AUC of P(KL at 12 months above the grade now) for the rises that val's own pairs of visits show,
    missing where too few rise.
    """
    knees = session.data.knees["val"]
    description = stack.description
    ways = sorted({*counts, description.steps, description.distilled_steps or description.steps})
    rows = []
    with open_networks(stack, session) as networks:
        current = networks.encode(knees.pixels)["latent"]
        p_now = networks.grade(knees.pixels, current)["kl"]
        for seed in (0, 1):
            future = networks.future(current, REFERENCE_STEPS, seed)
            wanted = networks.run("classifier_12m", {"latent": future})["kl"]
            pictures = networks.run("decoder", {"latent": future[:_JUDGED]})["radiograph"]
            reference_auc = _rise_auc(session, wanted)
            for steps in ways:
                forecast = networks.future(current, steps, seed)
                later = networks.run("classifier_12m", {"latent": forecast})["kl"]
                drawn = networks.run("decoder", {"latent": forecast[:_JUDGED]})["radiograph"]
                auc = _rise_auc(session, later)
                error = float(np.mean((drawn.clip(0, 1) - pictures.clip(0, 1)) ** 2))
                row: dict[str, Any] = {
                    "sampled_by": description.forecaster(steps),
                    "steps": steps,
                    "seed": seed,
                }
                row |= compare_risks(p_now, later, wanted)
                row["psnr_db"] = round(10 * math.log10(1 / max(error, 1e-12)), 2)
                row["auc_change"] = None if auc is None or reference_auc is None else auc - reference_auc
                log.info("%s", row)
                rows.append(row)
    return rows


def _rise_auc(session: Session, p_12m: npt.NDArray[np.float32]) -> float | None:
    knees, pairs = session.data.knees["val"], session.data.pairs["val"]
    can_rise = knees.grade[pairs.current] < 4
    now, later = pairs.current[can_rise], pairs.future[can_rise]
    rose = knees.grade[later] > knees.grade[now]
    if not 15 <= rose.sum() <= len(rose) - 15:
        return None
    above = np.arange(5)[None] > knees.grade[now][:, None]
    return float(roc_auc_score(rose, (p_12m[now] * above).sum(axis=1)))


def open_networks(stack: Stack, session: Session) -> Networks:
    """The stack's networks where the session computes: OpenVINO on a CPU, torch on a GPU."""
    if session.device.type == "cpu":
        return Networks(stack)
    return Networks(stack, "torch", device=str(session.device))


def modules_of(stack: Stack) -> Mapping[str, nn.Module]:
    """Every component of a stack as a module with its published weights."""
    return {name: module_of(stack, name) for name in stack.description.components}


def module_of(stack: Stack, component: str) -> nn.Module:
    """One component of a stack as a module with its published weights."""
    module = build(component, dict(stack.component(component).config))
    load_initial(stack, {component: module})
    return module
