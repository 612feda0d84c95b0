"""Print the table that the README quotes: python -m benchmarks [name …]."""

import os
import subprocess
import sys

BENCHMARKS = (
    "location",
    "loading",
    "batch",
    "pipeline",
    "tracking",
    "tables",
    "service",
    "gate",
    "contest",
    "drift",
    "checkpoints",
    "fast",
    "accurate",
    "calibration",
    "architectures",
)
PRINT = "from benchmarks.{name} import run; [print(row.line()) for row in run()]"


def main(names: list[str]) -> int:
    """All of them, or those that are named; each in a process of its own, so that none warms or burdens another."""
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}\n")
    print("| what | ours | baseline | ratio | bar | met |\n|---|---|---|---|---|---|", flush=True)
    ended = [
        subprocess.run([sys.executable, "-c", PRINT.format(name=name)], check=False).returncode
        for name in names or BENCHMARKS
    ]
    return max(ended)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
