"""Work that is shared with copies of this process: all that was imported and read is there at once, where a new process
would take a second to begin. Not here: what the work is.
"""

import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
AT_MOST = 4  # processes, this one among them


def shared(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """work of each item, in their order. The same with and without copies; what one raises is raised here.

    work: draws on nothing that it changes, and its results can be pickled; it must not take a lock or begin threads.
    """
    count = max(1, min(_processes(), len(items)))
    found: list[Any] = [None] * len(items)
    with ExitStack() as copies:
        answers = [copies.enter_context(_copy(work, items[each::count])) for each in range(1, count)]
        found[::count] = [work(item) for item in items[::count]]
        for each, answer in enumerate(answers, 1):
            found[each::count] = _received(answer, work, items[each::count])
    return found


def _processes() -> int:
    """How many may work: 1 where a copy is not safe, as it has only the thread that it was made in."""
    able = "fork" in multiprocessing.get_all_start_methods() and hasattr(os, "sched_getaffinity")
    if not able or threading.active_count() > 1 or multiprocessing.current_process().daemon:
        return 1
    return min(AT_MOST, len(os.sched_getaffinity(0)))


@contextmanager
def _copy(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Connection]:
    """A copy at work, and where its answer comes from. It ends with the block."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(ours, theirs, work, items), daemon=True)
    with warnings.catch_warnings():  # threads of libraries, which sleep, are no reason to warn
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        child.kill()
        child.join()


def _answer(ours: Connection, theirs: Connection, work: Callable[[Item], Result], items: Sequence[Item]) -> None:
    ours.close()  # or it would not notice that nobody waits any more
    try:
        said: tuple[bool, Any] = (True, [work(item) for item in items])
    except Exception as error:
        said = (False, error)
    theirs.send(said)


def _received(answer: Connection, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """What a copy found; where it was killed, the same from here."""
    try:
        done, said = answer.recv()
    except EOFError:
        return [work(item) for item in items]
    if not done:
        raise said
    found: list[Result] = said
    return found
