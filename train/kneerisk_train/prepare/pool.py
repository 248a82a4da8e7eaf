"""Radiographs through worker processes; one that kills its worker costs itself alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack
from itertools import islice
from typing import Protocol

from kneerisk.errors import Reason
from kneerisk_train.prepare.crops import Cropped
from kneerisk_train.prepare.release import ReleaseImage

Item = tuple[int, ReleaseImage]
Done = tuple[int, list[Cropped]]
Crop = Callable[[ReleaseImage], list[Cropped]]

_AHEAD = 4
"""Radiographs given out for each worker: enough to keep it busy, few enough to keep memory flat."""


class Setup(Protocol):
    """What a worker opens once; it travels to other processes."""

    def open(self) -> AbstractContextManager[Crop]:
        """Everything that crops one radiograph after another."""


def crop_all(items: Iterable[Item], setup: Setup, workers: int) -> Iterator[Done]:
    """Crop every radiograph, in whatever order they are done; with one worker, here and in order."""
    if workers == 1:
        with setup.open() as crop:
            for index, image in items:
                yield index, crop(image)
        return
    with setup.open():  # what cannot be opened at all fails here, in words, not in every worker
        pass
    waiting = iter(items)
    while True:
        lost: list[Item] = []
        yield from _until_broken(waiting, setup, workers, lost)
        if not lost:
            return
        for item in lost:  # one of these killed its worker: each gets a process of its own
            again: list[Item] = []
            yield from _until_broken(iter([item]), setup, 1, again)
            if again:
                message = "the process that read this radiograph died: too little memory, or a broken decoder"
                yield item[0], [Cropped(None, str(Reason.INTERNAL_ERROR), message)]


def _until_broken(items: Iterator[Item], setup: Setup, workers: int, lost: list[Item]) -> Iterator[Done]:
    """Until all is done or a worker dies; ``lost`` then has what was given out and did not come back."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the networks' threads half
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(setup,))
    running: dict[Future[list[Cropped]], Item] = {}

    def give_out(count: int) -> None:
        for item in islice(items, count):
            try:
                running[pool.submit(_work, item[1])] = item
            except BrokenProcessPool:
                lost.append(item)
                raise

    try:
        give_out(_AHEAD * workers)
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                crops = future.result()
                yield running.pop(future)[0], crops
                give_out(1)
    except BrokenProcessPool:
        lost.extend(running.values())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_opened = ExitStack()
"""In a worker: keeps open what crops; a context manager that is dropped closes."""
_crop: Crop | Exception | None = None
"""In a worker: what crops, or why it cannot be opened."""


def _start(setup: Setup) -> None:
    """In a worker, once: leave Ctrl-C to the parent, end with it, open what crops."""
    global _crop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _crop = _opened.enter_context(setup.open())
    except Exception as error:  # raised in here it would look like a worker that died
        _crop = error


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers, which would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(image: ReleaseImage) -> list[Cropped]:
    if isinstance(_crop, Exception):
        raise _crop
    assert _crop is not None
    return _crop(image)
