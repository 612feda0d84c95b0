"""What every benchmark shares: rows, repeated timing, the data, a child process with its peak memory."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist_pipeline.ml.digits import DigitData


@dataclass(frozen=True)
class Row:
    """One line of the table. met: whether the bar held in this run."""

    what: str
    ours: str
    baseline: str
    ratio: str
    bar: str
    met: bool

    def line(self) -> str:
        """As Markdown."""
        mark = "yes" if self.met else "**no**"
        return f"| {self.what} | {self.ours} | {self.baseline} | {self.ratio} | {self.bar} | {mark} |"


def mnist_folder() -> Path:
    """The folder of the real MNIST. Exits with what to do where there is none."""
    folder = os.environ.get("MNIST_DATA_DIR")
    if not folder:
        sys.exit("the benchmarks measure on the full MNIST: set MNIST_DATA_DIR to the folder of its four files")
    return Path(folder)


def mnist() -> DigitData:
    """Train, validation and test, as the pipeline splits them."""
    from mnist_pipeline.ml.sources import read_published
    from mnist_pipeline.ml.split import split_digits

    return split_digits(read_published(mnist_folder(), "mnist"), 0.2, 0)


def seconds(work: Callable[[], object], times: int) -> list[float]:
    """Wall time of each of `times` calls."""
    spent = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begun)
    return spent


def spread(values: Sequence[float], digits: int = 1, unit: str = "") -> str:
    """mean ± standard deviation, or the one value."""
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}{unit}"
    return f"{statistics.mean(values):,.{digits}f} ± {statistics.stdev(values):,.{digits}f}{unit}"


def child(command: Sequence[str], env: dict[str, str]) -> tuple[float, float]:
    """(seconds, peak GB of memory) of a process of its own. Raises CalledProcessError with its output printed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as users have it
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, env={**kept, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    with process.stdout as printed:
        output = printed.read()
    _, status, used = os.wait4(process.pid, 0)
    spent, process.returncode = time.perf_counter() - begun, os.waitstatus_to_exitcode(status)
    if process.returncode:
        print(output[-4_000:], file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)
    return spent, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
