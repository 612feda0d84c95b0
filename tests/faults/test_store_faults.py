"""The model store under kill -9 and a full disk: old or new, never neither, and never half.

Each child process is real, and so is each kill: at random moments, and before each call to the file system.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_table import Tried

import mnist_pipeline
from mnist_pipeline.storage.blobs import DiskBlobs
from mnist_pipeline.store import ModelStore

pytestmark = pytest.mark.slow
KILLS = 80
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(mnist_pipeline.__file__).parents[1])}

# One step stores a version, reports on it and deploys it; the number of the decision is said once it is made.
WORK = """
import os, signal, sys
from pathlib import Path
from mnist_pipeline.storage.blobs import DiskBlobs
from mnist_pipeline.store import ModelStore

store = ModelStore(DiskBlobs(Path(sys.argv[1])))

def step(content):
    card = store.add_version(
        {"weights.safetensors": content, "model.onnx": content[::-1]},
        label="digitcnn", metrics={}, config={}, class_names=[], preparation="ink", dataset="mnist",
        data_version="d", code_version="c", run_id="r",
    )
    report = store.add_report({"model_digest": card.digest, "data_digest": "d"})
    before = store.current()
    decision = store.decide(
        serves=card.name, strategy="quality", outcome="deployed", candidate=card.name, reason="better",
        evidence={"report": report}, actor="child", expected=before.number if before else 0,
    )
    print(decision.number, flush=True)
"""
CONTENT = "b'the same weights'"
FOREVER = f"{WORK}\nprint('0', flush=True)\nwhile True: step(os.urandom(100_000))"
# Every open, mkdir, link and unlink of the interpreter passes an audit hook: die before the n-th of one step.
UP_TO_A_CALL = f"""{WORK}
calls_left = int(sys.argv[2])
def die_in_time(event, _):
    global calls_left
    if event in ("open", "os.mkdir", "os.link", "os.remove", "os.listdir", "os.scandir"):
        calls_left -= 1
        if calls_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die_in_time)
step({CONTENT})
"""


class Witness:
    """Looks at a store after each kill: all is whole, and nothing that was acknowledged is gone."""

    def __init__(self, root: Path) -> None:
        self.store = ModelStore(DiskBlobs(root))
        self.acknowledged = 0
        self.seen: set[str] = set()

    def look(self, said: str) -> None:
        self.acknowledged = max([self.acknowledged, *map(int, said.split())])
        current = self.store.current()
        number = current.number if current else 0
        assert number in (self.acknowledged, self.acknowledged + 1)  # old or new
        self.acknowledged = number
        if current:
            self.store.load_decided(current)
            self.store.report(current.evidence["report"])
        for name in set(self.store.versions()) - self.seen:
            assert len(self.store.load(name)) == 2
            self.seen.add(name)

    def look_at_everything(self) -> None:
        assert self.store.verify_chain() == []
        for name in self.store.versions():
            self.store.load(name)
        assert len(self.store.decisions()) == self.acknowledged

    def left_behind(self) -> int:
        return len(list((self.store.blobs.root / ".tmp").iterdir()))


def run_child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_kill_at_random_moments(tmp_path: Path, tried: Tried) -> None:
    witness, chance = Witness(tmp_path / "store"), random.Random(2)
    for _ in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", FOREVER, str(tmp_path / "store")],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        child.stdout.readline()
        time.sleep(chance.uniform(0, 0.06))
        child.kill()
        witness.look(child.communicate()[0])
        assert child.returncode == -signal.SIGKILL
    witness.look_at_everything()
    remark = f"{witness.left_behind()} in mid-write; {len(witness.seen)} versions, {witness.acknowledged} decisions"
    tried("kill -9 while versions and decisions are written", KILLS, remark=remark)
    after = run_child(f"{WORK}\nstep(b'after')", tmp_path / "store")
    assert after.stdout.split() == [str(witness.acknowledged + 1)]


def test_kill_before_each_call_of_a_step(tmp_path: Path, tried: Tried) -> None:
    """Wherever the first attempt dies, a retried run with the same content completes what it began."""
    run_child(f"{WORK}\nstep(b'first')", tmp_path / "before")
    for calls in range(300):
        root = tmp_path / str(calls)
        shutil.copytree(tmp_path / "before", root)
        witness = Witness(root)
        child = run_child(UP_TO_A_CALL, root, calls)
        witness.look(f"1 {child.stdout}")
        assert child.returncode in (0, -signal.SIGKILL), child.stderr
        again = run_child(f"{WORK}\nstep({CONTENT})", root)
        assert again.returncode == 0, again.stderr
        witness.look(again.stdout)
        witness.look_at_everything()
        assert len(witness.seen) == 2
        if child.returncode == 0:
            break
    assert child.returncode == 0
    tried("kill -9 before each system call of storing and deciding", calls)


FULL = """
import sys
from pathlib import Path
from mnist_pipeline.storage.blobs import DiskBlobs, StoreUnavailable
from mnist_pipeline.store import ModelStore

root = Path(sys.argv[1])
store = ModelStore(DiskBlobs(root))
facts = dict(label="digitcnn", metrics={}, config={}, class_names=[], preparation="", dataset="",
             data_version="", code_version="", run_id="")
names = []
try:
    for number in range(100):
        names.append(store.add_version({"weights": bytes([number]) * 50_000, "onnx": b"o"}, **facts).name)
except StoreUnavailable as error:
    print(error)
assert names and store.versions() == sorted(names)
assert [len(store.load(name)) for name in names] == [2] * len(names)
assert list((root / ".tmp").iterdir()) == []
for weights in root.glob(f"versions/{names[0]}/*"):
    weights.unlink()
assert store.add_version({"weights": b"w" * 10_000}, **facts).name in store.versions()
"""


@pytest.mark.usefixtures("own_mounts")
def test_a_full_disk(tmp_path: Path) -> None:
    """A file system of 1 MB, mounted in a namespace of its own: no root, but a Linux that allows it."""
    mount = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1"'
    script = ["unshare", "-rm", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, FULL]
    done = subprocess.run(script, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"cannot write {tmp_path}/versions/digitcnn-" in done.stdout
    assert "the disk is full: free some space, then try again" in done.stdout
