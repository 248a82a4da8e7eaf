from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kneerisk.scoring.overlap import ordered_map


def test_order_is_kept_whichever_thread_ends_first() -> None:
    gate = threading.Event()

    def work(i: int) -> int:
        if i == 0:
            gate.wait(10)
        if i == 3:
            gate.set()
        return i * i

    tasks = list(ordered_map(work, range(8), workers=2, ahead=6))
    assert [task.value() for task in tasks] == [i * i for i in range(8)]


def test_items_are_pulled_only_a_few_ahead() -> None:
    pulled = []

    def source() -> Iterator[int]:
        for i in range(100):
            pulled.append(i)
            yield i

    tasks = ordered_map(lambda i: i + 1, source(), workers=2, ahead=5)
    next(tasks)
    assert len(pulled) <= 5
    tasks.close()  # type: ignore[attr-defined]


def test_an_error_belongs_to_its_item() -> None:
    tasks = list(ordered_map(lambda i: 10 // i, [5, 0, 2], workers=1, ahead=2))
    assert tasks[0].value() == 2
    with pytest.raises(ZeroDivisionError):
        tasks[1].value()
    assert tasks[2].value() == 5


def test_hanging_items_are_given_up_and_their_threads_replaced() -> None:
    release = threading.Event()

    def work(i: int) -> int:
        if i < 3:
            release.wait(30)
        return i

    tasks = list(ordered_map(work, range(6), workers=2, ahead=4, timeout=0.2))
    release.set()
    assert [task.timed_out for task in tasks] == [True] * 3 + [False] * 3
    assert [task.value() for task in tasks[3:]] == [3, 4, 5]
    with pytest.raises(TimeoutError):
        tasks[0].value()
