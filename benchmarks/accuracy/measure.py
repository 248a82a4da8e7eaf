"""Measure a stack on Chen's val knees: ``python -m benchmarks.accuracy.measure WHAT --stack S --data DIR``.

``grades``   KL accuracy, kappa and landmark errors of a table that ``kneerisk score`` wrote for the val PNGs
``copies``   the same knees inverted, mirrored and relabelled, re-exposed, at 8 and 16 bit: are the
             answers the same?
``rebuilt``  reconstructions, graded
``stay``     the same knees repositioned by a pixel or two and exposed anew: how far grades and latents move
``truth``    a table scored from a simulated cohort against that cohort's truth

DIR is Chen's folder for ``grades`` and ``copies``; for ``rebuilt`` and ``stay`` what ``kneerisk prepare
folder CHEN/knees.csv --cropped`` made of it; for ``truth`` the simulated cohort.

``grades`` and ``copies`` run the command-line tool itself; the others run the stack's networks.
Every knee here was used to choose (val), none to train.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl
from kneerisk_train.data.augment import AugmentConfig, augment
from kneerisk_train.publish.figures import auc_interval
from kneerisk_train.publish.forecast import grade_crops, open_networks, views_of
from kneerisk_train.stages.stage1.stay import STAY
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from benchmarks.accuracy.val import read_table, val_knees, val_rows
from kneerisk.method.calibration import Calibration
from kneerisk.method.grade import median_grade
from kneerisk.method.predict import ForwardPass
from kneerisk.records import LANDMARKS
from kneerisk.stack.stack import Stack

FloatArray = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def grades(stack: str, data: Path) -> dict[str, float]:
    """Score the val PNGs as stored through the command line, and compare with the readers and KNEEL."""
    rows = val_rows(data)
    with TemporaryDirectory() as scratch:
        table = _score(stack, [(data / row["file"], row) for row in rows], Path(scratch))
    truth = np.array([int(row["kl_grade"]) for row in rows])
    scored = (table["status"] == "ok").to_numpy()
    kept = table.filter(scored)
    now = kept.select([f"kl_now_p{grade}" for grade in range(5)]).to_numpy()
    predicted = kept["kl_now"].to_numpy()
    marks = {row["file"]: row for row in read_table(data / "landmarks.csv")}
    errors = []
    for index, row in enumerate(rows):
        if scored[index] and row["file"] in marks and row["mm_per_px_x"]:
            known = _points(marks[row["file"]], "{axis}_{name}")
            found = _points(table.row(index, named=True), "lm_now_{name}_{axis}")
            spacing = np.array([float(row["mm_per_px_x"]), float(row["mm_per_px_y"])])
            errors.append(np.linalg.norm((found - known) * spacing, axis=1))
    distance = np.array(errors)
    return {
        "knees": len(rows),
        "not_scored": int((~scored).sum()),
        # A knee that was not scored counts as one graded wrongly; kappa and AUC have no way to count it.
        "kl_accuracy": float((predicted == truth[scored]).sum() / len(rows)),
        "kl_quadratic_kappa": float(cohen_kappa_score(truth[scored], predicted, weights="quadratic")),
        "kl_auc_one_against_rest": float(
            roc_auc_score(truth[scored], now / now.sum(1, keepdims=True), multi_class="ovr")
        ),
        "landmarked_knees": len(errors),
        "landmark_median_mm": float(np.median(distance)),
        **{f"landmarks_within_{mm}_mm": float((distance <= mm).mean()) for mm in (1, 1.5, 2, 2.5)},
        "landmark_outliers_10_mm": float((distance >= 10).mean()),
    }


def copies(stack: str, data: Path, count: int) -> list[dict[str, object]]:
    """Score altered copies of the first ``count`` val knees and compare each with its original."""
    rows = val_rows(data)[:count]
    originals = []
    for row in rows:
        levels = np.asarray(cv2.imread(str(data / row["file"]), cv2.IMREAD_GRAYSCALE), np.uint8)
        originals.append(255 - levels if row["inverted"] == "true" else levels)
    changes: dict[str, tuple[Callable[[npt.NDArray[np.uint8]], Picture], bool]] = {
        "original": (lambda p: p, False),
        "inverted": (lambda p: 255 - p, False),
        "mirrored and relabelled": (lambda p: p[:, ::-1], True),
        "gamma 0.7, 16 bit": (lambda p: (65535 * (p / 255.0) ** 0.7).astype(np.uint16), False),
        "gamma 1.4, 16 bit": (lambda p: (65535 * (p / 255.0) ** 1.4).astype(np.uint16), False),
        "gamma 0.7, 8 bit": (lambda p: (255 * (p / 255.0) ** 0.7).round().astype(np.uint8), False),
        "gamma 1.4, 8 bit": (lambda p: (255 * (p / 255.0) ** 1.4).round().astype(np.uint8), False),
        "window, 16 bit": (lambda p: 8000 + 150 * p.astype(np.uint16), False),
        "window, 8 bit": (lambda p: (20 + 0.8 * p).round().astype(np.uint8), False),
    }
    results = []
    with TemporaryDirectory() as scratch:
        reference = None
        for name, (change, mirror) in changes.items():
            folder = Path(scratch) / name.replace(" ", "-").replace(",", "")
            folder.mkdir()
            inputs = []
            for number, (picture, row) in enumerate(zip(originals, rows, strict=True)):
                path = folder / f"{number:04}.png"
                cv2.imwrite(str(path), change(picture))
                side = row["side"] if not mirror else {"L": "R", "R": "L"}[row["side"]]
                inputs.append((path, row | {"side": side}))
            table = _score(stack, inputs, folder)
            reference = table if reference is None else reference
            apart = {name: (table[name] - reference[name]).abs() for name in ("risk_12m_image", "risk_12m")}
            results.append(
                {
                    "copy": name,
                    "knees": len(rows),
                    "not scored": int((table["status"] != "ok").sum()),
                    "grades changed": int((table["kl_now"] != reference["kl_now"]).sum()),
                    "image p99": float(apart["risk_12m_image"].quantile(0.99) or 0.0),
                    "image max": float(np.asarray(apart["risk_12m_image"].max())),
                    "given grade max": float(np.asarray(apart["risk_12m"].max())),
                }
            )
    return results


def rebuilt(stack: Stack, data: Path) -> dict[str, float]:
    """Grade the decoder's pictures of the val knees as if they were radiographs (a check of the paper's)."""
    val = val_knees(data)
    with open_networks(stack) as networks:
        latent = networks.encode(views_of(networks, val.pixels)[:, 0])["latent"]
        again = grade_crops(networks, networks.decode(latent))["kl"]
    return {
        "knees": len(val.grade),
        "auc_one_against_rest": float(
            roc_auc_score(val.grade, again / again.sum(1, keepdims=True), multi_class="ovr")
        ),
        "kl_accuracy": float((median_grade(again) == val.grade).mean()),
        "kl_quadratic_kappa": float(cohen_kappa_score(val.grade, median_grade(again), weights="quadratic")),
    }


def stay(stack: Stack, data: Path) -> list[dict[str, object]]:
    """How far the expected grade (one look) and the latent move where nothing changed but the radiograph.

    A real year moves the expected grade by 0.05 to 0.11; the latent's own mean square is 1.
    """
    val = val_knees(data)
    still = dataclasses.replace(
        STAY, rotation_degrees=0, scale=0, aspect=0, shift_px=0, field=0, blur_px=0, noise=0
    )
    kinds = {
        "all of it": STAY,
        "position": dataclasses.replace(STAY, field=0, blur_px=0, noise=0),
        "brightness field": dataclasses.replace(still, field=STAY.field),
        "blur": dataclasses.replace(still, blur_px=STAY.blur_px),
        "pixel noise": dataclasses.replace(still, noise=STAY.noise),
    }

    def seen(networks: ForwardPass, config: AugmentConfig) -> tuple[FloatArray, FloatArray]:
        made = [
            augment(crop, marks, config, np.random.default_rng((0, index)))[0]
            for index, (crop, marks) in enumerate(zip(val.pixels, val.landmarks, strict=True))
        ]
        latent = networks.encode(np.stack(made))["latent"]
        return latent, networks.grade([latent])["kl"] @ np.arange(5, dtype=np.float32)

    with open_networks(stack) as networks:
        latent, grade = seen(networks, still)
        rows: list[dict[str, object]] = []
        for kind, config in kinds.items():
            moved_latent, moved_grade = seen(networks, config)
            rows.append(
                {
                    "altered": kind,
                    "knees": len(grade),
                    "grade_sd": float((moved_grade - grade).std()),
                    "grade_shift": float((moved_grade - grade).mean()),
                    "latent_mean_square": float(np.square(moved_latent - latent).mean()),
                }
            )
    return rows


def truth(table: Path, cohort: Path, stack: Stack, participants: Path | None) -> list[dict[str, object]]:
    """AUCs for the rise that the reader saw a year on: the true risk's, the best there is, and a table's.

    Args:
        table: what ``kneerisk score`` wrote for the cohort's images.
        cohort: what ``kneerisk simulate`` wrote, with its ``truth.parquet``.
        stack: what it was scored with; its rates by grade are one of the scores.
        participants: a run's ``splits.csv``, to keep to its test split.
    """
    known = pl.read_parquet(cohort / "truth.parquet").filter(pl.col("kl_read") < 4)
    if participants is not None:
        test = pl.read_csv(participants, schema_overrides={"participant_id": pl.String})
        known = known.join(test.filter(pl.col("split") == "test"), on="participant_id", how="semi")
    scored = pl.read_parquet(table).filter(pl.col("status") == "ok")
    scored = scored.with_columns(pl.col("source_path").str.strip_prefix(f"{cohort}/").alias("image_path"))
    both = known.join(scored, on=["image_path", "side"], how="inner", suffix="_table")
    if both.is_empty():
        raise SystemExit(f"no image of {table} stands in {cohort / 'truth.parquet'}")
    rose = (both["kl_read_12m"] > both["kl_read"]).to_numpy()
    if not 0 < rose.sum() < len(rose):
        raise SystemExit(f"{rose.sum()} of {len(rose)} knees rise: there is nothing to tell apart")
    grade = both["kl_read"].to_numpy()
    calibration = Calibration.from_mapping(stack.calibration())
    given = both.filter(pl.col("risk_12m_basis") == "grade")
    scores = {
        "true risk": both["simulated_risk_12m"].to_numpy(),
        "risk_12m_sum": both["risk_12m_sum"].to_numpy(),
        "risk_12m_image": both["risk_12m_image"].to_numpy(),
        **({"risk_12m": both["risk_12m"].to_numpy()} if len(given) == len(both) else {}),
        "the reader's grade alone": np.asarray(calibration.rates)[grade],
    }
    who = both["participant_id"].to_numpy().astype(str)
    aucs = {name: auc_interval(score, rose, who) for name, score in scores.items()}
    best = aucs["true risk"].value - 0.5
    return [
        {
            "score": name,
            "knees": len(both),
            "rises": int(rose.sum()),
            "AUC (95 % interval)": str(auc),
            "of the way from 0.5 to the true risk's": (auc.value - 0.5) / best,
        }
        for name, auc in aucs.items()
    ]


def _score(stack: str, inputs: Sequence[tuple[Path, dict[str, str]]], scratch: Path) -> pl.DataFrame:
    """Run ``kneerisk score`` over a manifest of these files; rows in their order."""
    manifest, out = scratch / "manifest.csv", scratch / "risks.parquet"
    with manifest.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "participant_id", "side", "kl_0m"])
        writer.writerows(
            [p.resolve(), row["participant_id"], row["side"], row["kl_grade"]] for p, row in inputs
        )
    command = [sys.executable, "-m", "kneerisk", "score", str(manifest), "--out", str(out), "--stack", stack]
    done = subprocess.run([*command, "--no-progress", "--quiet"], check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(done.returncode)
    table = pl.read_parquet(out)
    order = {str(path.resolve()): number for number, (path, _) in enumerate(inputs)}
    position = [order[str((scratch / path).resolve())] for path in table["source_path"]]
    return table.with_columns(pl.Series("_order", position)).sort("_order")


def _points(row: dict[str, object] | dict[str, str], pattern: str) -> npt.NDArray[np.float64]:
    names = [[pattern.format(name=name, axis=axis) for axis in "xy"] for name in LANDMARKS]
    return np.array([[float(str(row[x])), float(str(row[y]))] for x, y in names])


def _print(rows: Iterable[dict[str, object]]) -> None:
    with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=160, float_precision=4):
        sys.stdout.write(f"{pl.DataFrame(list(rows))}\n")


def main() -> None:
    """Parse the command line and print one table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["grades", "copies", "rebuilt", "stay", "truth"])
    parser.add_argument("--stack", default="compact")
    parser.add_argument(
        "--data", type=Path, required=True, help="Chen's folder, prepared or not, or a cohort's: see above"
    )
    parser.add_argument("--count", type=int, default=100, help="knees of 'copies'")
    parser.add_argument("--table", type=Path, help="truth: what kneerisk score wrote")
    parser.add_argument("--splits", type=Path, help="truth: a run's splits.csv, to keep to its test split")
    arguments = parser.parse_args()
    if arguments.what == "grades":
        sys.stdout.write(json.dumps(grades(arguments.stack, arguments.data), indent=2) + "\n")
    elif arguments.what == "copies":
        _print(copies(arguments.stack, arguments.data, arguments.count))
    elif arguments.what == "truth":
        stack = Stack.load(arguments.stack)
        _print(truth(arguments.table, arguments.data, stack, arguments.splits))
    elif arguments.what == "stay":
        _print(stay(Stack.load(arguments.stack), arguments.data))
    else:
        sys.stdout.write(json.dumps(rebuilt(Stack.load(arguments.stack), arguments.data), indent=2) + "\n")


if __name__ == "__main__":
    main()
