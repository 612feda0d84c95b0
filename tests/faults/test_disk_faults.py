"""The whole graph on a disk that is full sooner or later: nothing half, nothing gone, and a larger disk heals it.

The disk is a file system of a few MB, mounted in a namespace of its own: no root is needed, but a Linux that allows it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fault_table import Tried
from pipelines import ROOT

pytestmark = pytest.mark.slow
ROOM_KB = (100, 700, 2_000, 3_000, 3_100, 3_200, 3_300, 3_340, 3_370)  # a whole run needs about 3,400

RUN = """
import json, subprocess, sys
from pathlib import Path
from children import tonight
from digit_files import png
from pipelines import TINY, UP_TO_DEPLOYMENT, Pipeline
from mnist_pipeline.ml.sources import read_embedded
from places import tables

disk, sizes = Path(sys.argv[1]), json.loads(sys.argv[2])

def resize(kb):
    subprocess.run(["mount", "-o", f"remount,size={kb}k", str(disk)], check=True)

def whole(pipeline):
    store = pipeline.store
    assert store.verify_chain() == []
    for name in store.versions():
        store.load(name)
    for path in (pipeline.state / "assets").glob("[!.]*"):
        pipeline.value(path.stem)

image, seen = png(read_embedded()["test"].images[0]), []
for number, size in enumerate(sizes):
    resize(64_000)
    pipeline = Pipeline(disk / f"state-{number}", MNIST_DATASET="embedded", MLFLOW_TRACKING_URI="none")
    pipeline.inbox.mkdir(parents=True)
    for name in range(20):
        (pipeline.inbox / f"{name}.png").write_bytes(image)
    used = sum(path.stat().st_size for path in disk.rglob("*")) // 1000
    resize(used + size)
    said = ""
    try:
        pipeline.run(*UP_TO_DEPLOYMENT, digit_classifier=TINY)
        pipeline.run("batch_digit_predictions", night=tonight())
    except Exception as error:
        while error:
            said, error = str(error), error.__cause__ or error.__context__
            if "disk is full" in said:
                break
    whole(pipeline)
    resize(64_000)
    before = pipeline.stored()
    pipeline.run(*UP_TO_DEPLOYMENT, digit_classifier=TINY)
    pipeline.run("batch_digit_predictions", night=tonight())
    whole(pipeline)
    assert {key: pipeline.stored().get(key) for key in before} == before
    files = [row["file"] for row in dict(tables(pipeline))[f"{tonight()}.parquet"]]
    assert sorted(files) == sorted(f"{name}.png" for name in range(20)), files
    seen.append(said)
print(json.dumps(seen))
"""


@pytest.mark.usefixtures("own_mounts")
def test_a_disk_that_is_full_in_mid_run(tmp_path: Path, tried: Tried) -> None:
    mount = 'mount -t tmpfs -o size=64m none "$1" && exec "$2" -c "$3" "$1" "$4"'
    arguments = [str(tmp_path), sys.executable, RUN, json.dumps(ROOM_KB)]
    here = [str(ROOT), str(Path(__file__).parent), str(Path(__file__).parents[1])]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", *arguments],
        env={**os.environ, "PYTHONPATH": ":".join(here)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert all(each.endswith("the disk is full: free some space, then try again") for each in said), said
    places = {Path(each.split(":")[0]).parent.name for each in said}
    tried("disk full in mid-run", len(said), remark=f"while writing {', '.join(sorted(places))}")
