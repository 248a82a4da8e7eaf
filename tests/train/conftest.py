"""A small prepared cohort with visits, made without a radiograph in sight; and graphs traced once."""

import json
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
from kneerisk_engines import export
from kneerisk_engines.spec import ComponentSpec
from kneerisk_train.prepare.pairs import visit_pairs
from kneerisk_train.prepare.write import FORMAT, schema
from torch import nn

from kneerisk.releases.records import KneeKey

SIZE = 96


def write_cohort(
    folder: Path,
    *,
    participants: int = 90,
    months: tuple[int, ...] = (0, 12),
    split: dict[str, str] | None = None,
    rises: float = 0.4,
) -> Path:
    """Crops whose joint gap narrows with the grade; a share of the knees rises between visits."""
    rng = np.random.default_rng(0)
    keys, grades, crops = [], [], []
    for person in range(participants):
        for side in ("R", "L"):
            grade = int(rng.integers(0, 5))
            for month in months:
                keys.append(KneeKey(f"{9000000 + person}", month, side))
                grades.append(grade)
                crop = rng.integers(60, 90, (SIZE, SIZE), dtype=np.uint8)
                crop[20:44, 10:86] += 120
                crop[44 + 2 * (4 - grade) + 1 : 76, 10:86] += 120
                crops.append(crop)
                grade += int(grade < 4 and rng.random() < rises)
    folder.mkdir(parents=True)
    pairs = visit_pairs(keys)
    count = len(keys)
    landmarks = np.full((count, 16, 2), np.nan, np.float32)
    landmarks[::4] = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(16, 2) * 20 + 15
    with h5py.File(folder / "knees.h5", "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["provenance"] = json.dumps({"release": "folder", "stack": "compact"})
        file.create_dataset("crops", data=np.stack(crops), chunks=(1, SIZE, SIZE))
        file["landmarks"] = landmarks
        file["spacing_mm"] = np.full((count, 2), 1.0, np.float32)
        for name in ("current", "future", "months", "horizon"):
            file[f"pairs/{name}"] = getattr(pairs, name)
    columns = {
        "participant_id": [key.participant_id for key in keys],
        "visit_month": [key.visit_month for key in keys],
        "side": [key.side for key in keys],
        "kl_grade": grades,
        "site": ["AB"[int(key.participant_id) % 2] for key in keys],
        "split": [None if split is None else split.get(key.participant_id) for key in keys],
        "h5_row": list(range(count)),
    }
    types = schema()
    full = {name: columns.get(name, [None] * count) for name in types}
    pl.DataFrame(full, schema=types).write_parquet(folder / "manifest.parquet")
    (folder / "summary.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety participants, two visits, two sites."""
    return write_cohort(tmp_path_factory.mktemp("cohort") / "prepared")


def architecture(module: nn.Module, spec: ComponentSpec) -> str:
    """All that a graph is made of but the weights, which it names and does not hold."""
    weights = module.state_dict()
    settings = [
        (name, type(part), [(k, v) for k, v in vars(part).items() if is_dataclass(v) or _is_plain(v)])
        for name, part in module.named_modules()
    ]
    constants = [(name, b.numpy().tobytes()) for name, b in module.named_buffers() if name not in weights]
    return repr((spec, settings, constants, [(name, value.shape) for name, value in weights.items()]))


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, tuple))


@pytest.fixture(scope="session", autouse=True)
def _traced_once() -> Iterator[None]:
    """Networks that differ in their weights alone share one traced graph: torch takes seconds for each.

    These tests ask what is published and with which weights; ``tests/engines/test_export.py`` traces anew.
    """
    import onnx

    trace, graphs = export._trace, {}

    def once(module: nn.Module, spec: ComponentSpec) -> onnx.ModelProto:
        key = architecture(module, spec)
        if key not in graphs:
            graphs[key] = trace(module, spec)
        graph = onnx.ModelProto()
        graph.CopyFrom(graphs[key])  # whoever asked changes it
        return graph

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_trace", once)
        yield
