"""A published stack with another localiser: every other network, calibration and equation as it was."""

from __future__ import annotations

from pathlib import Path

import yaml

from kneerisk.errors import UsageError
from kneerisk.models import build
from kneerisk.stack.stack import Stack
from kneerisk.stack.write import renew_component
from kneerisk.version import __version__
from kneerisk_train.films.other_views import HELD_OUT
from kneerisk_train.publish.model_card import LOCALISER_HEADING
from kneerisk_train.publish.write import training_record
from kneerisk_train.run.loop import dataclass_values, trained_weights
from kneerisk_train.run.session import Session
from kneerisk_train.stages.localiser import NAME


def renew_localiser(
    session: Session,
    source: Stack,
    folder: Path,
    *,
    name: str | None = None,
    version: str = "0.1.0",
    card: str | None = None,
    overwrite: bool = False,
) -> Stack:
    """Write a stack that is ``source`` with the run's localiser in the place of its own.

    Args:
        session: the run whose localiser is trained.
        source: the stack whose other networks, calibration, equations and terms are kept.
        folder: where the stack goes.
        name: of the stack; the folder's by default.
        version: of the stack.
        card: the text of MODEL_CARD.md; ``None`` adds a paragraph to the source's.
        overwrite: replace a folder that is there.

    Raises:
        UsageError: the recipe has no localiser of the source's size, or it is not trained.
        StackError: the folder is there.
    """
    config = session.recipe.localiser
    if config is None:
        raise UsageError(f"the recipe {session.recipe.name} has no localiser to renew {source.name}'s with")
    kept = build(NAME, dict(source.component(NAME).config)).config
    if config.localiser != kept:
        raise UsageError(
            f"the run's localiser is {config.localiser} and {source.name}'s is {kept}: train one of its size "
            f"(--init {source.description.name}), or publish the whole run"
        )
    name = name or folder.name
    return renew_component(
        source,
        folder,
        NAME,
        {key: array.numpy() for key, array in trained_weights(session.out, NAME).items()},
        model_card=card or _card(source, session, name, version),
        training=_training(source, session),
        overwrite=overwrite,
        name=name,
        version=version,
    )


def _training(source: Stack, session: Session) -> str:
    """The source's record of its training, with the localiser's of this run."""
    record, recipe = training_record(source), session.recipe
    record["localiser"] = {
        "kneerisk": __version__,
        "recipe": {"name": recipe.name, "seed": recipe.seed, **dataclass_values(recipe)[NAME]},
        "data": dict(session.data.provenance),
        "splits_sha256": session.data.splits_sha256,
        "started_from": None if session.started_from is None else dict(session.started_from),
        "other_views_held_out": list(HELD_OUT),
    }
    return yaml.safe_dump(record, sort_keys=False, allow_unicode=True)


def _card(source: Stack, session: Session, name: str, version: str) -> str:
    old, config = source.description, session.recipe.localiser
    assert config is not None
    text = source.model_card().replace(f'"{old.name}" {old.version}', f'"{name}" {version}', 1)
    text, _, _ = text.partition(LOCALISER_HEADING)  # of the one that goes
    begun = session.started_from["stack"] if session.started_from else "nothing"
    return f"""{text.rstrip()}

{LOCALISER_HEADING}

The localiser of {name} {version} started from {begun} and learnt, by the recipe "{session.recipe.name}",
on {config.films} films, in {config.optim.steps} steps of {config.optim.batch_size}: composites of the
training split's crops, simulated radiographs and, as films without a knee, simulated other views and joints,
all but the {", ".join(HELD_OUT)}.
All other networks, the calibration and the figures above are those of {source.name}.
"""
