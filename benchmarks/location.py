"""Loading the code location, beside importing Dagster alone; and what it must not import."""

import statistics
import subprocess
import sys

from benchmarks.common import Row, child, spread

TIMES = 7
HEAVY = ("torch", "mlflow", "sklearn", "matplotlib")


def run() -> list[Row]:
    """One row. The two are timed in turns, because the machine is shared."""
    plain, ours = [], []
    for _ in range(TIMES + 1):
        plain.append(child([sys.executable, "-c", "import dagster"], {})[0])
        ours.append(child([sys.executable, "-c", "import mnist_pipeline.definitions"], {})[0])
    plain, ours = plain[1:], ours[1:]  # the first fills the page cache
    ratio = statistics.median(ours) / statistics.median(plain)
    look = f"import mnist_pipeline.definitions, sys; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout.strip()
    return [
        Row(
            "loading the code location",
            spread(ours, 2, " s"),
            spread(plain, 2, " s (`import dagster`)"),
            f"{ratio:.2f}×",
            "≤ 1.5×, nothing heavy",
            ratio <= 1.5 and found == "[]",
        )
    ]
