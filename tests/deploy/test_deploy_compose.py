"""One host: the compose file by its own schema, and by what the images and the product are."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
import yaml
from deploy_files import one, read
from pipelines import ROOT

COMPOSE = one("compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"].startswith("mnist-"))
EXAMPLE = read(".env.example")


def check(compose: dict[str, Any]) -> None:
    """Raises jsonschema's ValidationError."""
    schema = files("check_jsonschema.builtin_schemas.vendor") / "compose-spec.json"
    jsonschema.validate(compose, json.loads(schema.read_text()))


def test_compose_knows_every_field() -> None:
    check(COMPOSE)
    with pytest.raises(jsonschema.ValidationError, match="heathcheck"):
        check({**COMPOSE, "services": {"code": {**SERVICES["code"], "heathcheck": {}}}})


def test_every_variable_of_the_file_is_in_the_example_and_no_other() -> None:
    text = read("compose.yaml")
    filled = set(re.findall(r"\$\{(\w+)", text))
    handed_on = {name for each in SERVICES.values() for name, value in _told(each).items() if value is None}
    assert set(re.findall(r"^#?(\w+)=", EXAMPLE, re.MULTILINE)) == filled | handed_on


def test_what_has_to_be_given_is_asked_for_and_has_no_value() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", read("compose.yaml")))
    assert set(re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE)) == needed
    assert not re.findall(r"^\w+=.+", EXAMPLE, re.MULTILINE)


def test_the_defaults_are_those_of_the_example() -> None:
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]+)\}", read("compose.yaml")))
    shown = dict(re.findall(r"^#(\w+)=(.+)$", EXAMPLE, re.MULTILINE))
    assert {name: shown[name] for name in defaults if name != "MLFLOW_TRACKING_URI"} == {
        name: value for name, value in defaults.items() if name != "MLFLOW_TRACKING_URI"
    }
    assert defaults["MLFLOW_TRACKING_URI"] == "none"


def test_the_code_location_is_found_where_it_listens() -> None:
    (place,) = yaml.safe_load(read("workspace.yaml"))["load_from"]
    server = place["grpc_server"]
    assert server["host"] in SERVICES
    command = re.findall(r'^CMD (\["dagster".*\])$', read("Dockerfile"), re.MULTILINE)
    words = json.loads(command[0])
    assert words[words.index("-p") + 1] == str(server["port"])
    assert SERVICES["code"]["healthcheck"]["test"][-1] == str(server["port"])
    for name in ("webserver", "daemon"):
        assert SERVICES[name]["command"][-2:] == ["-w", "/opt/mnist/workspace.yaml"]
    assert "instances/postgres/dagster.yaml deploy/workspace.yaml /opt/mnist/" in read("Dockerfile")


@pytest.mark.parametrize("name", OURS)
def test_ours_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service  # the image's, which is not root
    written = [*service.get("tmpfs", []), *(volume.partition(":")[2] for volume in service.get("volumes", []))]
    assert {each.partition(":")[0] for each in written} == {"/tmp", "/var/lib/mnist"}


def test_whatever_is_offered_is_offered_on_this_host_alone() -> None:
    offered = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(offered) == {"webserver", "service", "mlflow"}
    assert all(port.startswith("127.0.0.1:") for ports in offered.values() for port in ports)


def test_what_runs_print_can_be_read_by_the_webserver() -> None:
    assert SERVICES["code"]["volumes"] == SERVICES["webserver"]["volumes"]


def test_a_secret_is_told_only_to_those_who_need_it() -> None:
    who = {name: {each for each, service in SERVICES.items() if name in _told(service)} for name in SECRET}
    assert who == SECRET


SECRET = {
    "SLACK_BOT_TOKEN": {"code", "service"},
    "MNIST_SERVE_TOKEN": {"service"},
    "AWS_SECRET_ACCESS_KEY": {"code", "service", "bucket", "mlflow"},
    "DAGSTER_POSTGRES_URL": {"code", "webserver", "daemon"},
    "POSTGRES_PASSWORD": {"postgres"},
    "MINIO_ROOT_PASSWORD": {"s3"},
}


def _told(service: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = service.get("environment", {})
    return told


def test_mlflow_is_asked_by_the_name_that_it_answers_to() -> None:
    (hosts,) = (word.partition("=")[2].split(",") for word in SERVICES["mlflow"]["command"] if "allowed-hosts" in word)
    (address,) = re.findall(r"^#MLFLOW_TRACKING_URI=http://(\S+)$", EXAMPLE, re.MULTILINE)
    assert address in hosts
    assert address.partition(":")[0] in SERVICES


def test_the_bucket_is_made_by_the_words_of_the_file(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, as it is whenever the file comes up."""
    import boto3

    words = SERVICES["bucket"]["command"]
    assert words[:2] == ["python", "-c"]
    monkeypatch.setenv("S3_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("MNIST_S3_BUCKET", "made-by-compose")
    for _ in range(2):
        exec(words[2], {})
    boto3.client("s3", endpoint_url=s3_endpoint).head_bucket(Bucket="made-by-compose")


def test_the_env_file_is_in_no_image_and_not_in_git() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    assert "**/.env" in (ROOT / ".dockerignore").read_text().splitlines()
