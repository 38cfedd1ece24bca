"""Work in several processes, in which one that dies costs the others nothing.

Processes are spawned, so `work` must be a function of a module and tasks and results must be picklable. They ignore
Ctrl-C, which the calling process hears, and end when it ends, whatever its end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_FAREWELL_S = 5.0


@dataclass(frozen=True, slots=True)
class Died:
    """A process ended in the middle of a task. reason: for people."""

    reason: str


def work_through(
    work: Callable[[Task, Callable[[Any], None]], Result],
    tasks: Sequence[Task],
    workers: int,
    told: Callable[[int, Any], None],
) -> Generator[tuple[int, Result | Died], None, None]:
    """Do each task. Gives (position in `tasks`, result) as they come.

    work: called with a task and with what it may tell its progress to; what it tells reaches `told` with the task's
    position. It must not raise. workers: 1 works in this process.
    """
    if workers == 1 or len(tasks) == 1:
        for index, task in enumerate(tasks):
            yield index, work(task, lambda value, index=index: told(index, value))  # type: ignore[misc]
        return
    crew = _Crew(work, tasks)
    try:
        crew.hire(min(workers, len(tasks)))
        yield from crew.results(told)
    finally:
        crew.dismiss()


@dataclass(slots=True)
class _Worker:
    """A process, and the position of the task it has in hand."""

    process: BaseProcess
    pipe: Connection[Any, Any]
    index: int


class _Crew(Generic[Task, Result]):
    def __init__(self, work: Callable[[Task, Callable[[Any], None]], Result], tasks: Sequence[Task]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._work = work
        self._waiting = deque(enumerate(tasks))
        self._workers: list[_Worker] = []

    def hire(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(theirs, self._work), daemon=True)
            with _interrupts_ignored():  # and so in the process from its first moment on
                process.start()
            theirs.close()  # only the process itself holds its end, so that its death closes the pipe
            worker = _Worker(process, ours, -1)
            self._workers.append(worker)
            self._hand_out(worker)

    def results(self, told: Callable[[int, Any], None]) -> Iterator[tuple[int, Result | Died]]:
        while self._workers:
            ready = wait([worker.pipe for worker in self._workers])
            for worker in [worker for worker in self._workers if worker.pipe in ready]:
                index = worker.index
                try:
                    is_result, value = worker.pipe.recv()
                except (EOFError, OSError):
                    self._workers.remove(worker)
                    self.hire(1)
                    yield index, Died(_how_it_ended(worker.process))
                    continue
                if is_result:
                    self._hand_out(worker)
                    yield index, value
                else:
                    told(index, value)

    def dismiss(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_FAREWELL_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()

    def _hand_out(self, worker: _Worker) -> None:
        """Give the next task to a worker, or let it go."""
        if self._waiting:
            worker.index, task = self._waiting.popleft()
            worker.pipe.send(task)
        else:
            worker.pipe.close()
            self._workers.remove(worker)
            worker.process.join(_FAREWELL_S)


def _serve(pipe: Connection[Any, Any], work: Callable[[Any, Callable[[Any], None]], Any]) -> None:
    """What a process does: tasks from the pipe, one after another, until it is closed."""

    def answer(is_result: bool, value: Any) -> None:
        try:
            pipe.send((is_result, value))
        except OSError:
            os._exit(1)  # nobody listens any more

    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # no exit handlers: native libraries have threads that must not see the interpreter go
        answer(True, work(task, lambda value: answer(False, value)))


def _how_it_ended(process: BaseProcess) -> str:
    process.join(_FAREWELL_S)
    code = process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in {number.value for number in signal.Signals} else str(-code)
        return f"its process was ended by {name}" + ("; is there enough memory?" if name == "SIGKILL" else "")
    return f"its process ended with code {code}"


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
