"""Chen's folder: one frame and one grey scale for every knee."""

import cv2
import numpy as np
import pytest
from kneerisk_train.data import chen

from kneerisk.errors import UsageError
from kneerisk.records import LANDMARKS


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "val").mkdir()
    ramp = np.tile(np.arange(224, dtype=np.uint8), (224, 1))
    header = "file,split,participant_id,side,kl_grade,inverted,mm_per_px_x,mm_per_px_y\n"
    rows = [
        "val/aR.png,val,0012,R,0,false,0.43,0.44\n",
        "val/aL.png,val,0012,L,3,false,,\n",
        "val/bR.png,val,7,R,4,true,0.40,0.41\n",
    ]
    (tmp_path / "knees.csv").write_text(header + "".join(rows))
    for name, pixels in (("aR", ramp), ("aL", ramp), ("bR", 255 - ramp)):
        cv2.imwrite(str(tmp_path / "val" / f"{name}.png"), pixels)
    columns = ",".join(f"x_{n},y_{n}" for n in LANDMARKS)
    marks = ",".join("10,20" for _ in LANDMARKS)
    (tmp_path / "landmarks.csv").write_text(f"file,{columns}\nval/aL.png,{marks}\n")
    return tmp_path


def test_left_knees_are_mirrored_and_reversed_greys_undone(folder):
    knees = chen.load(folder, "val")
    np.testing.assert_array_equal(knees.pixels[0], knees.pixels[2])
    np.testing.assert_array_equal(knees.pixels[0], knees.pixels[1][:, ::-1])
    assert knees.has_landmarks.tolist() == [False, True, False]
    np.testing.assert_allclose(knees.landmarks[1], np.tile([213, 20], (16, 1)))
    assert knees.participant.tolist() == ["0012", "0012", "7"]
    assert knees.grade.tolist() == [0, 3, 4]
    assert np.isnan(knees.spacing[1]).all()


def test_a_missing_crop_is_named(folder):
    (folder / "val" / "bR.png").unlink()
    with pytest.raises(UsageError, match=r"bR\.png"):
        chen.load(folder, "val")


def test_a_missing_table_or_split_is_named(folder):
    with pytest.raises(UsageError, match="train"):
        chen.load(folder, "train")
    (folder / "knees.csv").unlink()
    with pytest.raises(UsageError, match=r"knees\.csv"):
        chen.load(folder, "val")
