"""Run one training stage: ``python -m train STAGE --recipe NAME|FILE --data DIR --out DIR``."""

from __future__ import annotations

import argparse
import importlib
import logging
from pathlib import Path

from train.recipe import load_recipe


def main() -> None:
    """Parse the command line and run the stage."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("stage", choices=["vqvae", "classifier", "diffusion", "localiser"])
    parser.add_argument("--recipe", default="compact")
    parser.add_argument(
        "--data", type=Path, required=True, help="Chen's folder: knees.csv, landmarks.csv, crops"
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(arguments.out / f"{arguments.stage}.log")],
    )
    stage = importlib.import_module(f"train.{arguments.stage}")
    stage.train(load_recipe(arguments.recipe), arguments.data, arguments.out)


if __name__ == "__main__":
    main()
