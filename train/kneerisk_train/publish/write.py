"""A run's trained modules → the folder of a stack, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import yaml
from kneerisk_engines.spec import ArraySpec, ComponentSpec
from torch import nn

from kneerisk.models import build
from kneerisk.radiograph.locate.crop import FIELD_MM
from kneerisk.stack.components import StackComponent
from kneerisk.stack.description import StackDescription
from kneerisk.stack.find import available_stacks
from kneerisk.stack.stack import Stack
from kneerisk.stack.write import TRAINING_FILE, write_stack
from kneerisk.version import __version__
from kneerisk_train.run.loop import dataclass_values, trained_weights
from kneerisk_train.run.session import Session
from kneerisk_train.stages.classifier import LATER, NOW
from kneerisk_train.stages.diffusion import NAME as DIFFUSION
from kneerisk_train.stages.futures import uses_visits
from kneerisk_train.stages.initial import load_initial
from kneerisk_train.stages.localiser import NAME as LOCALISER
from kneerisk_train.stages.stage1.decoder import load_decoder
from kneerisk_train.stages.vqvae import load_autoencoder

log = logging.getLogger(__name__)

_MICRO_BATCH = 8


def specs(latent: tuple[int, int, int]) -> dict[str, ComponentSpec]:
    """The named arrays of every component but the localiser, for latents (C, h, w)."""
    picture = (1, 8 * latent[1], 8 * latent[2])
    landmarks = ArraySpec("landmarks", (16, 2))
    shapes = {
        "encoder": ((ArraySpec("radiograph", picture),), (ArraySpec("latent", latent), ArraySpec("novelty"))),
        "unet": (
            (ArraySpec("noisy", latent), ArraySpec("current", latent), ArraySpec("time")),
            (ArraySpec("velocity", latent),),
        ),
        "classifier_now": ((ArraySpec("latent", latent),), (ArraySpec("kl", (5,)), landmarks)),
        "classifier_12m": (
            (ArraySpec("latent", latent),),
            (ArraySpec("transition", (5, 5)), landmarks),
        ),
        "decoder": ((ArraySpec("latent", latent),), (ArraySpec("radiograph", picture),)),
    }
    return {name: ComponentSpec(name, inputs, outputs) for name, (inputs, outputs) in shapes.items()}


def localiser_spec(size: int) -> ComponentSpec:
    """The localiser's named arrays, for films of ``size`` pixels a side."""
    cells = size // 4
    return ComponentSpec(
        "localiser",
        (ArraySpec("radiograph", (1, size, size)),),
        (
            ArraySpec("centres", (2, cells, cells)),
            ArraySpec("width", (1, cells, cells)),
            ArraySpec("implant", (1, cells, cells)),
            ArraySpec("inverted"),
        ),
    )


def write_networks(
    session: Session,
    modules: dict[str, nn.Module],
    folder: Path,
    *,
    name: str,
    version: str,
    steps: int,
    terms: str | None,
) -> Stack:
    """Write a stack that has networks and no calibration or card yet.

    Args:
        session: the run that the modules were trained in.
        modules: component → network, its heads fitted; see :func:`trained_modules`.
        folder: where it goes; one that is there is replaced.
        name: of the stack.
        version: of the stack.
        steps: sampler steps a future.
        terms: of the weights, in words; ``None`` says the cohort's name and "research use only".
    """
    recipe, data = session.recipe, session.data
    channels, side = recipe.vqvae.encoder.latent_channels, recipe.crop_size // 8
    latent = (channels, side, side)
    said = terms or (
        f"Trained on: {data.name}, prepared by the publisher; that cohort's data agreement decides what may "
        "be done with these weights. Research use only."
    )
    plain = _configs(session)
    # The auxiliary heads, the optimiser's state and the codebook's usage stay behind.
    entries = {
        # The nearest code is a cliff: bfloat16 features would change a sixth of the codes.
        component: StackComponent(spec, said, plain[component], float32_only=component == "encoder")
        for component, spec in specs(latent).items()
    }
    localiser, entries["localiser"], taken_from = _localiser(session, said)
    futures = futures_in_words(session)
    description = StackDescription(
        name=name,
        version=version,
        summary=f"{data.name}; {'real' if uses_visits(session) else 'surrogate'} futures; research use, no "
        "medical device",
        crop_size=recipe.crop_size,
        field_of_view_mm=FIELD_MM,
        latent_shape=latent,
        steps=steps,
        samples=1,
        micro_batch=_MICRO_BATCH,
        grade_zooms=recipe.classifier.grade_zooms,
        components=entries,
    )
    record: dict[str, Any] = {
        "kneerisk": __version__,
        "recipe": dataclass_values(recipe),
        "data": data.provenance,
        "splits_sha256": data.splits_sha256,
        "started_from": None if session.started_from is None else dict(session.started_from),
        "futures": futures,
        "rates": data.rates.population,
        "pairs": {
            split: {"found": len(pairs.current), "rises": _rises(session, split)}
            for split, pairs in data.pairs.items()
        },
        "knees": {split: len(knees) for split, knees in data.knees.items()},
    }
    if taken_from is not None:
        # What it learnt goes with it; a stack that has it from yet another says from which.
        record["localiser"] = {"stack": taken_from.name} | training_record(taken_from).get("localiser", {})
    return write_stack(
        folder,
        description,
        {component: module.cpu() for component, module in (modules | {LOCALISER: localiser}).items()},
        calibration={},
        model_card="",
        training=yaml.safe_dump(record, sort_keys=False, allow_unicode=True),
        overwrite=True,
    )


def training_record(stack: Stack) -> dict[str, Any]:
    """What a stack says of its training (``training.yaml``); empty where it says nothing."""
    path = stack.folder / TRAINING_FILE
    record: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return record


def futures_in_words(session: Session) -> str:
    """What the forecast learnt from: how many pairs were found, and whether they were used."""
    count = len(session.data.pairs["train"].current)
    found = f"{count} graded pairs of visits a year apart, {_rises(session, 'train')} of them rises"
    if uses_visits(session):
        return f"real second visits: the training split's {found}"
    return f"surrogate futures; of the training split's {found}, none was used"


def _rises(session: Session, split: str) -> int:
    pairs, grade = session.data.pairs[split], session.data.knees[split].grade
    return int((grade[pairs.future] > grade[pairs.current]).sum())


def trained_modules(session: Session) -> dict[str, nn.Module]:
    """The run's trained networks by component."""
    autoencoder = load_autoencoder(session)
    plain = _configs(session)
    modules: dict[str, nn.Module] = {
        "encoder": autoencoder.encoder,
        "decoder": load_decoder(session),
    }
    for name, file in (("unet", DIFFUSION), (NOW, NOW), (LATER, LATER)):
        modules[name] = build(name, plain[name])
        modules[name].load_state_dict(trained_weights(session.out, file))
        modules[name].to(session.device).eval()
    return modules


def move_stack(stack: Stack, folder: Path) -> Stack:
    """A finished stack into its place; what was there goes."""
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        folder.rename(old)
    stack.folder.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return Stack.load(folder)


def _configs(session: Session) -> dict[str, dict[str, Any]]:
    """Component → its network's config, as plain values."""
    recipe = session.recipe
    configs: dict[str, Any] = {
        "encoder": recipe.vqvae.encoder,
        "decoder": recipe.vqvae.decoder if recipe.decoder is None else recipe.decoder.decoder,
        "unet": recipe.diffusion.unet,
        NOW: recipe.classifier.classifier,
        LATER: recipe.classifier.classifier,
    }
    return {name: json.loads(json.dumps(dataclasses.asdict(config))) for name, config in configs.items()}


def _localiser(session: Session, terms: str) -> tuple[nn.Module, StackComponent, Stack | None]:
    """The run's own localiser or, where it has none, that of the stack that cut the knees out.

    The third is the stack that it was taken from; None of the run's own.
    """
    config = session.recipe.localiser
    if config is not None:
        plain = json.loads(json.dumps(dataclasses.asdict(config.localiser)))
        module = build(LOCALISER, plain)
        module.load_state_dict(trained_weights(session.out, LOCALISER))
        return module, StackComponent(localiser_spec(config.localiser.size), terms, plain), None
    # Crops that came as they are were cut out by nobody: the shipped localiser finds such knees too.
    used = str(session.data.provenance.get("stack") or "compact")
    known = available_stacks()
    named = next((name for name, folder in known.items() if Stack.load(folder).name == used), "compact")
    stack = Stack.load(named)
    if stack.name != used and used != "compact":
        log.warning("the stack %s that cut the knees out is not here: publishing %s's localiser", used, named)
    entry = stack.component(LOCALISER)
    module = build(LOCALISER, dict(entry.config))
    load_initial(stack, {LOCALISER: module})
    return module, entry, stack
