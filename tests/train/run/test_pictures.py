"""Pictures of a training say what they show; its loss is a plot."""

from pathlib import Path

import cv2
import numpy as np
from kneerisk_train.run.pictures import captioned, draw_losses, marked_crops, side_by_side
from kneerisk_train.run.training_log import TrainingLog

GREY = np.full((3, 200, 200), 0.5, np.float32)


def has_ink(strip: np.ndarray) -> bool:
    return int((strip > 150).sum()) > 20


def test_rows_stand_under_their_captions() -> None:
    picture = side_by_side(("radiographs", GREY), ("reconstructions", GREY / 2))
    assert picture.shape == (2 * 222, 600, 3)
    for top, grey in ((0, 128), (222, 64)):
        assert has_ink(picture[top : top + 22])
        assert (picture[top + 22 : top + 222] == grey).all()


def test_landmarks_are_marked_below_a_caption() -> None:
    points = np.full((3, 16, 2), 50, np.float32)
    picture = marked_crops("landmarks", GREY, points)
    assert has_ink(picture[:22])
    assert (picture[22 + 50, 50] != 128).any() and (picture[22 + 150, 150] == 128).all()


def test_a_small_picture_is_widened_for_its_words_and_long_words_are_shrunk() -> None:
    small = np.full((8, 8, 3), 9, np.uint8)
    picture = captioned(
        "a caption that is much longer than any picture of this size could ever hold " * 2, small
    )
    assert picture.shape == (30, 360, 3)
    assert (picture[22:, :8] == 9).all() and not picture[22:, 8:].any()
    assert not picture[:22, 356:].any()


def test_a_log_draws_the_loss_and_titles_its_pictures(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, "vqvae", 0) as log:
        for step in range(100):
            log.step(step, 1e-3, 2 / (step + 1), {"reconstruction": 1 / (step + 1)})
        log.figures(100, {}, {"crops": np.full((50, 400, 3), 90, np.uint8)})
    folder = tmp_path / "pictures" / "vqvae"
    assert sorted(path.name for path in folder.iterdir()) == ["crops-000100.png", "loss.png"]
    titled = cv2.imread(str(folder / "crops-000100.png"))
    assert has_ink(titled[:22]) and (titled[22:] == 90).all()
    plot = cv2.imread(str(folder / "loss.png"))
    assert plot.shape[1] > 600 and len(np.unique(plot.reshape(-1, 3), axis=0)) > 20


def test_one_step_is_plotted_too(tmp_path: Path) -> None:
    assert draw_losses(tmp_path / "loss.png", "vqvae", [0], {"loss": [1.0], "term": [0.0]})
