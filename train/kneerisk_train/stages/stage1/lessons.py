"""What stage 1 is taught beside the readers' grades: posteriors of teachers or of an earlier stack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from kneerisk.errors import UsageError
from kneerisk.stack.stack import Stack
from kneerisk_train.data.knees import Knees
from kneerisk_train.run.loop import channels_last
from kneerisk_train.run.session import Session, fingerprint
from kneerisk_train.stages.coding import load_arrays, save_arrays
from kneerisk_train.stages.initial import load_initial
from kneerisk_train.stages.stage1.teacher import read_trained
from kneerisk_train.stages.vqvae import AutoencoderWithHeads, radiograph_batches

_FILE = "lessons_now.npz"


@dataclass(frozen=True)
class _Lessons:
    posterior: npt.NDArray[np.float32]


def read_lessons(session: Session, knees: Knees) -> npt.NDArray[np.float32]:
    """P(KL) [N, 5] of the knees as they are, by the teachers or else by the stack to start from; once a run.

    Raises:
        UsageError: there is neither.
    """
    recipe, path = session.recipe, session.out / _FILE
    if recipe.teacher is None and session.initial is None:
        raise UsageError("vqvae.taught needs a teacher: give the recipe one, or start from a stack (--init)")
    shape = (recipe.vqvae.encoder, recipe.classifier.classifier, recipe.teacher or "", recipe.seed)
    initial = None if session.initial is None else session.initial.sha256
    purpose = fingerprint(repr(shape), session.data.splits_sha256, initial)
    found = load_arrays(path, _Lessons, purpose)
    if found is not None:
        assert isinstance(found, _Lessons)
        return found.posterior
    if recipe.teacher is not None:
        posterior = read_trained(session, knees)
    else:
        assert session.initial is not None
        posterior = _read_published(session.initial, session, knees)
    save_arrays(path, _Lessons(posterior), purpose)
    return posterior


@torch.no_grad()
def _read_published(stack: Stack, session: Session, knees: Knees) -> npt.NDArray[np.float32]:
    module = AutoencoderWithHeads(session.recipe)
    load_initial(stack, {"encoder": module.encoder, "classifier_now": module.classifier})
    channels_last(module).eval().to(session.device)
    return np.concatenate(
        [
            module.classifier(module.encoder(radiographs)[0])[0].cpu().numpy()
            for radiographs in radiograph_batches(knees.pixels, session)
        ]
    )
