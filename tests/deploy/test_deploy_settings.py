"""What stands in deploy/ as a whole: no variable that nothing reads, no secret, no image without a version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from deploy_files import DEPLOY, documents, files, one, read
from pipelines import PROD, ROOT

from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.environment import REQUIRED
from mnist_pipeline.service.settings import Settings, doors

SOURCES = "\n".join(
    path.read_text()
    for path in [*(ROOT / "mnist_pipeline").rglob("*.py"), ROOT / "instances" / "postgres" / "dagster.yaml"]
)
OTHERS = {  # variable -> who reads it, where that is not this product
    "AWS_ACCESS_KEY_ID": "boto3",
    "AWS_SECRET_ACCESS_KEY": "boto3",
    "AWS_DEFAULT_REGION": "boto3",
    "DAGSTER_HOME": "Dagster",
    "DAGSTER_PG_PASSWORD": "dagster.yaml, as the chart writes it",
    "MINIO_ROOT_USER": "MinIO",
    "MINIO_ROOT_PASSWORD": "MinIO",
    "MLFLOW_S3_ENDPOINT_URL": "MLflow",
    "PATH": "the system",
    "PIP_DISABLE_PIP_VERSION_CHECK": "pip",
    "PIP_NO_CACHE_DIR": "pip",
    "PIP_ROOT_USER_ACTION": "pip",
    "POSTGRES_DB": "Postgres",
    "POSTGRES_PASSWORD": "Postgres",
    "POSTGRES_USER": "Postgres",
    "PYTHONDONTWRITEBYTECODE": "Python",
    "PYTHONUNBUFFERED": "Python",
    "RAY_API_SERVER_ADDRESS": "Ray",
    "RAY_AUTH_MODE": "Ray",
    "RAY_AUTH_TOKEN": "Ray",
    "RAY_USAGE_STATS_ENABLED": "Ray",
}
YAML = [str(path.relative_to(DEPLOY)) for path in files() if path.suffix == ".yaml"]
SECRETS = re.compile(r"(?i)(xox[a-z]-\w|AKIA\w{12}|-----BEGIN|(password|token|secret\w*key)[\"']?: *[\"']?[\w+/]{8,})")
SETTINGS: dict[str, str] = one("kubernetes/settings.yaml")["data"]


def told(node: Any) -> Iterator[str]:
    """The names of all variables that are set somewhere in a document."""
    if isinstance(node, list):
        for each in node:
            yield from told(each)
    elif isinstance(node, dict):
        env = node.get("env", node.get("environment", {}))
        if isinstance(env, list):
            yield from (each["name"] for each in env)
        elif isinstance(env, dict):
            yield from env
        elif isinstance(env, str):
            yield env
        for each in node.values():
            yield from told(each)


def images(node: Any) -> Iterator[str]:
    """All images in a document, as repository:tag."""
    if isinstance(node, list):
        for each in node:
            yield from images(each)
    elif isinstance(node, dict):
        image = node.get("image")
        if isinstance(image, str):
            yield image
        elif isinstance(image, dict):
            yield f"{image['repository']}:{image['tag']}"
        for each in node.values():
            yield from images(each)


def variables() -> set[str]:
    """Of all that deploy/ sets."""
    named = {name for path in YAML for document in documents(path) for name in told(document)}
    env = re.sub(r"\\\n", " ", read("Dockerfile"))
    in_images = {name for line in re.findall(r"^ENV (.*)$", env, re.MULTILINE) for name in re.findall(r"(\w+)=", line)}
    suggested = set(re.findall(r"^  # ([A-Z_0-9]+): ", read("kubernetes/settings.yaml"), re.MULTILINE))
    return named | in_images | suggested | set(SETTINGS)


def test_every_variable_is_read_by_somebody() -> None:
    assert {name for name in variables() if f'"{name}"' not in SOURCES and f"env: {name}" not in SOURCES} <= set(OTHERS)


def test_nobody_is_named_for_what_is_not_set() -> None:
    assert set(OTHERS) <= variables() | {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_prod_lacks_nothing_on_one_host_and_on_kubernetes() -> None:
    compose = one("compose.yaml")["services"]
    assert set(REQUIRED) <= set(compose["code"]["environment"])
    assert set(REQUIRED) <= {*SETTINGS, "SLACK_BOT_TOKEN"}  # which is in a Secret
    assert "SLACK_BOT_TOKEN" in read("helm/values.yaml")


def test_the_product_takes_what_it_is_told_on_kubernetes() -> None:
    env = {**SETTINGS, "SLACK_BOT_TOKEN": PROD["SLACK_BOT_TOKEN"], "MNIST_SERVE_TOKEN": "token"}
    assert build_definitions(env).resources["models"].location == "s3://your-bucket/digits/models"
    assert doors(Settings.of(env), env).store


@pytest.mark.parametrize("path", YAML)
def test_every_image_has_a_version(path: str) -> None:
    for document in documents(path):
        for image in images(document):
            assert re.fullmatch(r"\S+:[A-Za-z]*[\d.]+\S*", image), image
            assert "latest" not in image


@pytest.mark.parametrize("path", [str(path.relative_to(DEPLOY)) for path in files()])
def test_no_secret_stands_in_a_file(path: str) -> None:
    found = [line for line in read(path).splitlines() if SECRETS.search(line) and "${" not in line]
    assert found == []


def test_a_secret_would_be_seen() -> None:
    for line in ("SLACK_BOT_TOKEN: xoxb-12345", "  postgresqlPassword: hunter2hunter2", "AWS: AKIAABCDEFGHIJKLMNOP"):
        assert SECRETS.search(line)


def test_every_yaml_file_is_one() -> None:
    assert {path.suffix for path in files()} <= {".yaml", ".txt", ".py", ".example", ".md", ""}
    for path in YAML:
        assert list(yaml.safe_load_all(read(path)))
