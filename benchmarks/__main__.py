"""Print the table that the README quotes: python -m benchmarks [name …]."""

import importlib
import os
import sys

BENCHMARKS = ("location", "loading", "batch", "pipeline", "fast", "accurate")


def main(names: list[str]) -> None:
    """All of them, or those that are named."""
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}\n")
    print("| what | ours | baseline | ratio | bar | met |\n|---|---|---|---|---|---|", flush=True)
    for name in names or BENCHMARKS:
        for row in importlib.import_module(f"benchmarks.{name}").run():
            print(row.line(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
