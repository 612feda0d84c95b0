"""What holds the code together, read from its syntax: imports run one way, nothing happens unasked."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipelines import call

import mnist_pipeline

PACKAGE = Path(mnist_pipeline.__file__).parent
FILES = {
    ".".join(("mnist_pipeline", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}

# From the bottom to the top: a module imports from its own layer and from those below it. Where a new module
# belongs is for people to say, so it has to be written down here. A name stands for what lies below it too.
LAYERS = (
    ("the language of the package", {"mnist_pipeline.ml", "mnist_pipeline.code_versions"}),
    (
        "store and what else is plain Python",
        {
            *(
                "acquire",
                "changes",
                "contests",
                "deciding",
                "environment",
                "ledger",
                "model_versions",
                "nights",
                "process",
            ),
            *("production", "samples", "store", "studies", "storage", "inbox", "datasets"),
            *("experiments", "experiments.sender", "tracking", "alerts", "traffic", "observed"),
            *("corrections", "labelled", "measured", "night_rows", "night_tables", "tracing", "witnesses"),
            *("checkpoint_files", "trainers"),
            *("ray_drivers", "on_ray", "ray_training", "ray_training_driver"),
        },
    ),
    (
        "what Dagster is told about it",
        {
            *("compute_logs", "console", "executor", "files", "lost_steps", "pictures", "ray_jobs", "ray_steps"),
            "retries",
        },
    ),
    ("resources and service", {"resources", "service"}),
    ("assets, and jobs made of ops", {"assets", "jobs"}),
    ("automation", {"automation", "sensors", "refreshing"}),
    ("definitions", {"definitions"}),
    (
        "ways in",
        {
            *("run", "refreshing.__main__", "notebook", "tune", "doctor", "datasets.__main__", "experiments.__main__"),
            *("cli", "__main__"),
        },
    ),
)
DAGSTER_IS_KNOWN_TO = {
    *("assets", "automation", "sensors", "compute_logs", "console", "definitions", "executor", "files", "pictures"),
    *("resources", "retries", "run", "doctor", "datasets.__main__", "experiments.__main__", "jobs", "tune"),
    *("refreshing", "refreshing.__main__", "notebook", "lost_steps", "ray_jobs", "ray_steps"),
}
READS_THE_ENVIRONMENT = {
    *("environment", "resources", "service", "definitions", "executor", "run", "doctor", "experiments.__main__"),
    "experiments.sender",  # changes its own only: mlflow's limits can be set in no other way
    "ray_training_driver",  # the same: how long Ray Train waits for processors
}
BY_ITSELF = {
    "datasets.__main__",
    "experiments.__main__",
    "experiments.sender",
    "refreshing.__main__",
}  # of a package, what may do more than the rest of it
FRAMEWORKS = {
    *("dagster", "dagster_slack", "dagster_mlflow", "mlflow", "boto3", "botocore", "slack_sdk"),
    *("requests", "httpx", "urllib", "urllib3", "http", "aiohttp", "starlette", "fastapi", "uvicorn", "socket"),
}
HEAVY = {
    "numpy",
    "torch",
    "torchvision",
    "sklearn",
    "matplotlib",
    "mlflow",
    "onnxruntime",
    "onnx",
    "scipy",
    "pandas",
    "PIL",
    "pandera",
    "dagster_pandera",
    "skops",
    "optuna",
    "mapie",
    "skl2onnx",
    "cleanlab",
    "ray",
    "dagster_ray",
}


def imported(tree: ast.AST, module: str, *, at_load: bool = False) -> set[str]:
    """Full names of the modules that are imported; at_load: only what runs when the module is loaded."""
    found = set()
    for node in at_load_only(tree) if at_load else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            name = str(node.module)
            found |= {f"{name}.{alias.name}" if f"{name}.{alias.name}" in FILES else name for alias in node.names}
    return found


def at_load_only(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those inside functions and under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from at_load_only(node)


def part_of(module: str) -> str:
    """The name under which a module stands in the tables above: "assets", "store", "experiments.sender"."""
    name = module.partition(".")[2]
    return name if name in BY_ITSELF else name.partition(".")[0]


def layer(module: str) -> int:
    below = [i for i, (_, names) in enumerate(LAYERS) if names & {part_of(module), f"mnist_pipeline.{part_of(module)}"}]
    assert len(below) == 1, f"{module} has no place yet: give it one in LAYERS"
    return below[0]


def own(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("mnist_pipeline.")}


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module}.{node.name}, line {node.lineno}", node


@pytest.mark.parametrize("module", [module for module in TREES if module != "mnist_pipeline"])
def test_imports_run_one_way(module: str) -> None:
    above = {name for name in own(imported(TREES[module], module)) if layer(name) > layer(module)}
    assert above == set()


def test_no_imports_run_in_a_circle() -> None:
    waiting = {module: own(imported(tree, module)) - {module} for module, tree in TREES.items()}
    while free := {module for module, needs in waiting.items() if not needs & waiting.keys()}:
        waiting = {module: needs for module, needs in waiting.items() if module not in free}
    assert waiting == {}


@pytest.mark.parametrize("module", [module for module in TREES if module.startswith("mnist_pipeline.ml.")])
def test_ml_knows_nothing_but_ml(module: str) -> None:
    names = imported(TREES[module], module)
    assert {name for name in own(names) if not name.startswith("mnist_pipeline.ml.")} == set()
    assert {name.split(".")[0] for name in names} & FRAMEWORKS == set()


def test_dagster_is_known_only_where_it_has_to_be() -> None:
    knowing = {
        part_of(module)
        for module, tree in TREES.items()
        if any(name.split(".")[0].startswith("dagster") for name in imported(tree, module))
    }
    assert knowing <= DAGSTER_IS_KNOWN_TO


def test_nothing_that_the_code_location_loads_imports_anything_heavy() -> None:
    loaded, queue = set(), ["mnist_pipeline.definitions"]
    while queue:
        module = queue.pop()
        loaded.add(module)
        queue += own(imported(TREES[module], module, at_load=True)) - loaded
    assert len(loaded) > 10
    heavy = {m: {n.split(".")[0] for n in imported(TREES[m], m, at_load=True)} & HEAVY for m in loaded}
    assert {module: names for module, names in heavy.items() if names} == {}


IMPORT_EVERYTHING = """
import importlib, os, sys
import dagster, numpy, PIL.Image, pyarrow.parquet, scipy.fft, scipy.ndimage, torch
import torchvision.models  # their effects are not ours

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

def watch(event, arguments):
    if event == "open" and arguments[2] & WRITING:
        print("writes", arguments[0])
    elif event.split(".")[0] in ("subprocess", "socket", "shutil", "tempfile", "urllib"):
        print(event, arguments)
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.putenv", "os.unsetenv"):
        print(event, arguments)

before = dict(os.environ)
sys.addaudithook(watch)
for module in sys.argv[1:]:
    importlib.import_module(module)
print(*(name for name in os.environ if os.environ[name] != before.get(name)))
"""


@pytest.mark.slow
def test_importing_any_module_has_no_effect(tmp_path: Path) -> None:
    """Not on disk, network, environment or other processes."""
    state = {"MNIST_PIPELINE_STATE": str(tmp_path / "state"), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path)}
    done = call("-c", IMPORT_EVERYTHING, *FILES, **state)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
    assert not (tmp_path / "state").exists()


def test_only_resources_builds_resources() -> None:
    kinds = ("ConfigurableResource", "ConfigurableIOManagerFactory")
    resources = {
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith(kinds) for base in node.bases)
    }
    assert {"Source", "Models", "Pictures", "Mail", "Tables", "Tracking", "AssetFilesResource"} <= resources
    builders = {
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in resources
    }
    assert builders == {"mnist_pipeline.resources"}


def test_the_environment_is_read_in_one_place() -> None:
    reading = {part_of(m) for m, path in FILES.items() if re.search(r"os\.(environ|getenv)", path.read_text())}
    assert reading <= READS_THE_ENVIRONMENT


def test_nothing_is_pickled() -> None:
    for module, tree in TREES.items():
        names = {name.split(".")[0] for name in imported(tree, module)}
        assert names & {"pickle", "joblib", "cloudpickle", "dill", "marshal", "shelve"} == set(), module
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not [each for each in calls if ast.unparse(each.func) in ("torch.load", "torch.save")], module
        for each in calls:
            if ast.unparse(each.func) == "np.load":
                assert "allow_pickle=False" in ast.unparse(each), module


def test_every_function_says_what_it_takes_and_returns() -> None:
    bare = [name for name, node in functions() if node.returns is None]
    for name, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        bare += [f"{name}: {a.arg}" for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
    assert bare == []


def test_every_module_and_every_public_function_has_a_docstring() -> None:
    silent = [module for module, tree in TREES.items() if not ast.get_docstring(tree)]
    for module, tree in TREES.items():
        top = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        silent += [f"{module}.{node.name}" for node in top if node.name[0] != "_" and not ast.get_docstring(node)]
    assert silent == []


def test_no_name_says_nothing() -> None:
    vague = re.compile(r"(^|_)(utils?|helpers?|manager|misc|common|stuff|data2|temp|foo)(_|$)")
    names = {part for module in FILES for part in module.split(".")} | {node.name for _, node in functions()}
    assert {name for name in names if vague.search(name.lower())} <= {"create_io_manager"}
