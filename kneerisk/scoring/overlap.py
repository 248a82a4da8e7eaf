"""A map over threads that keeps order, stays a few items ahead, and gives up on items that take too long."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class Task(Generic[T, R]):
    """One item on its way through a thread."""

    item: T
    started: float | None = None
    done: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    result: R | None = None
    error: BaseException | None = None
    timed_out: bool = False

    def value(self) -> R:
        """The result, or the error it ended in raised again; TimeoutError where it took too long."""
        if self.timed_out:
            raise TimeoutError
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


def ordered_map(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int,
    ahead: int,
    timeout: float | None = None,
    name: str = "kneerisk-read",
) -> Iterator[Task[T, R]]:
    """Apply ``function`` in threads; yield finished tasks in the order of ``items``.

    Args:
        function: called once an item, in some thread; never returns ``None``.
        items: pulled lazily, in the caller's thread.
        workers: threads.
        ahead: how many items may be under way or waiting to be taken, so that memory is bounded.
        timeout: seconds an item may run; its thread, which cannot be stopped, is left behind and replaced.
        name: of the threads.
    """
    tasks: queue.SimpleQueue[Task[T, R] | None] = queue.SimpleQueue()
    pending: deque[Task[T, R]] = deque()
    source = iter(items)
    threads = workers

    def work() -> None:
        while (task := tasks.get()) is not None:
            task.started = time.monotonic()
            task.begun.set()
            try:
                task.result = function(task.item)
            except BaseException as error:  # handed to the caller, who asks for the value
                task.error = error
            task.done.set()
            if task.timed_out:  # replaced while it hung
                return

    def start_thread() -> None:
        # daemons: a decoder that hangs for good must not keep the process alive
        threading.Thread(target=work, daemon=True, name=name).start()

    for _ in range(workers):
        start_thread()
    try:
        exhausted = False
        while True:
            while not exhausted and len(pending) < ahead:
                try:
                    task: Task[T, R] = Task(next(source))
                except StopIteration:
                    exhausted = True
                    break
                pending.append(task)
                tasks.put(task)
            if not pending:
                return
            head = pending.popleft()
            if not _wait(head, timeout):
                head.timed_out = True
                start_thread()
            yield head
    finally:
        for _ in range(threads):
            tasks.put(None)


def _wait(task: Task[T, R], timeout: float | None) -> bool:
    """Whether the task finished within ``timeout`` seconds of its start."""
    if timeout is None:
        task.done.wait()
        return True
    task.begun.wait()
    assert task.started is not None
    return task.done.wait(max(0.0, task.started + timeout - time.monotonic()))
