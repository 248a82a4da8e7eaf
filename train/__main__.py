"""Run one training stage: ``python -m train STAGE --recipe NAME|FILE --data DIR --out DIR``.

Stages, in order: vqvae, diffusion, classifier, localiser; then publish, which writes the stack.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from pathlib import Path

from train.recipe import load_recipe

STAGES = ("vqvae", "diffusion", "classifier", "localiser")


def main() -> None:
    """Parse the command line and run the stage."""
    parser = argparse.ArgumentParser(
        prog="python -m train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=[*STAGES, "publish"])
    parser.add_argument("--recipe", default="compact")
    parser.add_argument(
        "--data", type=Path, required=True, help="Chen's folder: knees.csv, landmarks.csv, crops"
    )
    parser.add_argument("--out", type=Path, required=True, help="weights, checkpoints and logs of all stages")
    published = parser.add_argument_group("publish")
    published.add_argument("--stack", type=Path, help="the folder to write; one that is there is replaced")
    published.add_argument("--version", default="0.1.0")
    published.add_argument("--steps", type=int, default=16, help="sampler steps a future")
    published.add_argument("--model-card", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(arguments.out / f"{arguments.stage}.log")],
    )
    for chatty in ("onnxscript", "onnx_ir", "torch"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    recipe = load_recipe(arguments.recipe)
    if arguments.stage in STAGES:
        stage = importlib.import_module(f"train.{arguments.stage}")
        stage.train(recipe, arguments.data, arguments.out)
        return
    from train.publish import publish

    if arguments.stack is None or arguments.model_card is None:
        parser.error("publish needs --stack and --model-card")
    publish(
        recipe,
        arguments.data,
        arguments.out,
        arguments.stack,
        version=arguments.version,
        steps=arguments.steps,
        model_card=arguments.model_card.read_text(encoding="utf-8"),
    )


if __name__ == "__main__":
    main()
