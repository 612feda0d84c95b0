"""What is set for a process as a whole."""

from __future__ import annotations

from pipelines import call


def test_a_process_with_a_run_does_not_look_at_all_objects_as_it_ends() -> None:
    tell = "atexit.register(lambda: print(gc.get_freeze_count() > 1_000, gc.get_threshold()[0]))"
    ends = call("-c", f"import atexit, gc; {tell}\nfrom mnist_pipeline.process import collect_seldom as c\nc()")
    assert ends.stdout.split() == ["True", "20000"], ends.stderr
