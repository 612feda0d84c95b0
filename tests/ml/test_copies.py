"""Work that copies of a process do. Each story has a process of its own: one with a single thread, as a run has."""

from __future__ import annotations

import threading

import pytest
from pipelines import call

from mnist_pipeline.ml import copies

BEGIN = """
import os, signal, sys, threading, time
from mnist_pipeline.ml import copies
first = os.getpid()
copies._processes = lambda: {processes}
def who(item):
    return item, os.getpid()
"""


def told(script: str, processes: int = 3) -> list[str]:
    done = call("-W", "error", "-c", BEGIN.format(processes=processes) + script, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(("items", "processes"), [(7, 3), (2, 2), (1, 1), (0, 1)])
def test_results_stand_in_the_order_of_the_items_whoever_did_them(items: int, processes: int) -> None:
    script = f"""
found = copies.shared(who, range({items}))
print([item for item, _ in found] == list(range({items})), len({{pid for _, pid in found}} | {{first}}))
"""
    assert told(script) == ["True", str(processes)]


def test_what_is_raised_in_a_copy_is_raised_here_and_no_copy_stays() -> None:
    script = """
def work(item):
    if item == 1:
        raise ValueError("no-such-row")
    return item
try:
    copies.shared(work, range(3))
except ValueError as error:
    print(error)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("alone")
"""
    assert told(script) == ["no-such-row", "alone"]


def test_what_a_killed_copy_had_to_do_is_done_here() -> None:
    script = """
def work(item):
    if item == 1 and os.getpid() != first:
        os.kill(os.getpid(), signal.SIGKILL)
    return item
print(copies.shared(work, range(5)) == list(range(5)))
"""
    assert told(script, 2) == ["True"]


def test_copies_end_with_a_failure_here() -> None:
    script = """
def work(item):
    if os.getpid() == first:
        raise ValueError("here")
    time.sleep(600)
try:
    copies.shared(work, range(2))
except ValueError as error:
    print(error)
"""
    assert told(script, 2) == ["here"]


def test_a_process_with_other_threads_is_not_copied() -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert copies._processes() == 1
        assert copies.shared(lambda item: (item, threading.current_thread()), [1]) == [(1, threading.current_thread())]
    finally:
        ended.set()
        thread.join()


def test_a_process_with_one_thread_is_copied_where_there_are_processors() -> None:
    script = "print(copies._processes() == min(copies.AT_MOST, len(os.sched_getaffinity(0))))"
    done = call("-c", f"import os; from mnist_pipeline.ml import copies; {script}", timeout=60)
    assert done.stdout == "True\n", done.stderr
