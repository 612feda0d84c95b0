"""Resources: configuration from the environment, the same keys everywhere, and no effect before they are used."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipelines import PROD

from mnist_pipeline.acquire import DATASETS, SourceUnavailable
from mnist_pipeline.environment import PROJECT, state_folder
from mnist_pipeline.inbox.engines import LocalEngine
from mnist_pipeline.inbox.ray_engine import RayEngine
from mnist_pipeline.resources import dev_resources, prod_resources
from mnist_pipeline.storage.s3_requests import Place


def test_everything_lies_under_one_state_folder(tmp_path: Path) -> None:
    made = dev_resources({"MNIST_PIPELINE_STATE": str(tmp_path / "state")})
    folders = [made[name].location for name in ("io_manager", "models", "pictures")] + [made["source"].downloads]
    folders += [made["mail"].inbox, made["mail"].predictions]
    assert len(set(folders)) == 6
    assert all(Path(folder).parent == tmp_path / "state" for folder in folders)


def test_without_a_setting_it_is_the_ignored_folder_of_the_project() -> None:
    assert state_folder({}) == state_folder({"MNIST_PIPELINE_STATE": ""}) == PROJECT / "state"
    assert "/state/" in (PROJECT / ".gitignore").read_text().splitlines()


def test_a_home_folder_is_understood_and_a_path_is_made_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert state_folder({"MNIST_PIPELINE_STATE": "~/mnist"}) == tmp_path / "mnist"
    assert state_folder({"MNIST_PIPELINE_STATE": "here"}) == tmp_path / "here"


def test_building_and_opening_them_touches_no_disk(tmp_path: Path) -> None:
    for build in (dev_resources, prod_resources):
        made = build({**PROD, "MNIST_PIPELINE_STATE": str(tmp_path / "state")})
        for name in ("source", "models", "pictures", "mail"):
            made[name].open()
    assert list(tmp_path.iterdir()) == []


def test_prod_keeps_everything_in_the_bucket_but_what_it_downloads(tmp_path: Path) -> None:
    made = prod_resources({**PROD, "MNIST_PIPELINE_STATE": str(tmp_path)})
    places = {made[name].location for name in ("io_manager", "models", "pictures")}
    places |= {made["mail"].inbox, made["mail"].predictions}
    assert places == {f"s3://our-bucket/{name}" for name in ("assets", "models", "pictures", "inbox", "predictions")}
    assert Path(made["source"].downloads).parent == tmp_path
    below = prod_resources({**PROD, "MNIST_S3_PREFIX": "/team/digits/"})
    assert below["models"].location == "s3://our-bucket/team/digits/models"


def test_studies_stay_on_the_machine_and_what_came_of_them_goes_where_everything_is_kept(tmp_path: Path) -> None:
    env = {**PROD, "MNIST_PIPELINE_STATE": str(tmp_path)}
    dev, prod = dev_resources(env)["tuning"], prod_resources(env)["tuning"]
    assert dev.folder == prod.folder == str(tmp_path / "tuning" / "studies")
    assert (dev.location, prod.location) == (str(tmp_path / "tuning"), "s3://our-bucket/tuning")


def test_a_server_of_ones_own_is_passed_on_to_everything_that_may_be_in_s3() -> None:
    made = prod_resources({**PROD, "S3_ENDPOINT_URL": "http://127.0.0.1:9000"})
    endpoints = {made[name].endpoint for name in ("io_manager", "source", "models", "pictures", "mail")}
    assert endpoints == {"http://127.0.0.1:9000"}


def test_inbox_and_data_may_be_in_s3_in_dev_and_in_a_folder_in_prod(tmp_path: Path) -> None:
    dev = dev_resources({"MNIST_INBOX": "s3://drops/here", "MNIST_DATA_DIR": "s3://data/mnist"})
    assert dev["mail"].open().where() == "s3://drops/here"
    assert dev["source"].open().directory == Place("data", "mnist")
    prod = prod_resources({**PROD, "MNIST_INBOX": str(tmp_path), "MNIST_DATA_DIR": str(tmp_path)})
    assert prod["mail"].open().where() == str(tmp_path)
    assert prod["source"].open().directory == tmp_path


def test_prod_names_what_is_not_set_and_what_for() -> None:
    with pytest.raises(ValueError, match=r"MNIST_S3_BUCKET: the bucket in which models"):
        prod_resources({})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"MNIST_S3_BUCKET": "s3://our-bucket"}, "names no bucket"),
        ({"MNIST_S3_PREFIX": "a/../b"}, "a prefix has no empty part"),
        ({"MNIST_S3_PREFIX": "p" * 200}, "longer than"),
        ({"S3_ENDPOINT_URL": "127.0.0.1:9000"}, "S3_ENDPOINT_URL='127.0.0.1:9000' is no address"),
        ({"MNIST_INBOX": "s3:///drops"}, "MNIST_INBOX: 's3:///drops' names no bucket"),
        ({"MNIST_DATA_DIR": "gs://bucket/mnist"}, "MNIST_DATA_DIR: .* only folders and s3://bucket/prefix"),
    ],
)
def test_a_place_that_cannot_be_is_refused_at_load(wrong: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prod_resources({**PROD, **wrong})


def test_prod_differs_from_dev_in_taking_no_fallback(tmp_path: Path) -> None:
    env = {**PROD, "MNIST_PIPELINE_STATE": str(tmp_path)}
    dev, prod = dev_resources(env), prod_resources(env)
    assert dev.keys() == prod.keys()
    assert (dev["source"].allow_embedded, prod["source"].allow_embedded) == (True, False)


def test_tracking_is_what_the_environment_says(tmp_path: Path) -> None:
    state = {"MNIST_PIPELINE_STATE": str(tmp_path)}
    plain = dev_resources(state)["tracking"]
    assert (plain.uri, plain.experiment) == (f"sqlite:///{tmp_path}/mlflow.db", "mnist_pipeline")
    assert (plain.ui, plain.environment) == ("http://127.0.0.1:3000", "dev")
    said = {"MNIST_EXPERIMENT": "other", "DAGSTER_UI_URL": "https://dagster.example/", **PROD}
    made = prod_resources({**state, **said})["tracking"]
    assert (made.uri, made.experiment, made.environment) == (PROD["MLFLOW_TRACKING_URI"], "other", "prod")
    assert made.ui == "https://dagster.example/"
    assert dev_resources({**state, "MLFLOW_TRACKING_URI": "none"})["tracking"].is_off()


def test_the_source_is_what_the_environment_says(tmp_path: Path) -> None:
    env = {
        "MNIST_PIPELINE_STATE": str(tmp_path),
        "MNIST_DATASET": "kmnist",
        "MNIST_DATA_DIR": str(tmp_path / "own"),
        "MNIST_MIRROR": "http://mirror.example/",
        "MNIST_PREPARATION": "resize",
    }
    source = dev_resources(env)["source"].open()
    assert (source.dataset, source.directory, source.preparation) == ("kmnist", tmp_path / "own", "resize")
    assert source.mirrors == ("http://mirror.example/",)


def test_unset_and_empty_mean_the_default(tmp_path: Path) -> None:
    names = ("MNIST_DATASET", "MNIST_DATA_DIR", "MNIST_MIRROR", "MNIST_PREPARATION", "MNIST_INBOX")
    names += ("MNIST_INBOX_SETTLE_S", "MNIST_PIPELINE_TIMEZONE")
    state = {"MNIST_PIPELINE_STATE": str(tmp_path)}
    unset, empty = dev_resources(state), dev_resources({**state, **dict.fromkeys(names, "")})
    assert unset == empty
    source = unset["source"].open()
    assert (source.dataset, source.directory, source.mirrors, source.preparation) == ("auto", None, (), "ink")
    assert (unset["mail"].timezone, unset["mail"].settle_s) == ("UTC", 5.0)


WRONG = {
    ("MNIST_DATASET", "minst"): f"it is one of {', '.join(DATASETS)}",
    ("MNIST_PREPARATION", "smear"): "it is one of ink, resize",
    ("MNIST_PIPELINE_TIMEZONE", "Europe/Atlantis"): "is no timezone; write it like Europe/Berlin",
    ("MNIST_INBOX_SETTLE_S", "soon"): "is no number of seconds",
}


@pytest.mark.parametrize(("variable", "value"), WRONG)
def test_a_wrong_value_fails_at_load_naming_the_variable_and_what_it_takes(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{variable}='{value}'.*{WRONG[variable, value]}"):
        dev_resources({variable: value})


@pytest.mark.parametrize("dataset", ["images", "idx"])
def test_data_of_ones_own_needs_a_folder(tmp_path: Path, dataset: str) -> None:
    import logging

    made = dev_resources({"MNIST_PIPELINE_STATE": str(tmp_path), "MNIST_DATASET": dataset})
    with pytest.raises(SourceUnavailable, match=f"MNIST_DATASET={dataset} needs MNIST_DATA_DIR"):
        made["source"].open().load(logging.getLogger())


def test_inbox_timezone_and_patience_are_read(tmp_path: Path) -> None:
    env = {
        "MNIST_PIPELINE_STATE": str(tmp_path),
        "MNIST_INBOX": str(tmp_path / "drop"),
        "MNIST_PIPELINE_TIMEZONE": "Europe/Berlin",
        "MNIST_INBOX_SETTLE_S": "0.5",
    }
    mail = dev_resources(env)["mail"]
    assert (mail.inbox, mail.settle_s, mail.zone().key) == (str(tmp_path / "drop"), 0.5, "Europe/Berlin")


def test_nights_are_scored_where_the_environment_says(tmp_path: Path) -> None:
    state, head = {"MNIST_PIPELINE_STATE": str(tmp_path)}, {"RAY_ADDRESS": "ray-head:6379"}
    assert dev_resources(state)["engine"].open() == LocalEngine(1)
    assert dev_resources({**state, "MNIST_WORKERS": "3"})["engine"].open() == LocalEngine(3)
    assert dev_resources({**state, **head})["engine"].open() == LocalEngine(1)
    assert prod_resources({**PROD, **state})["engine"].open() == LocalEngine(1)
    assert prod_resources({**PROD, **state, **head})["engine"].open() == RayEngine("ray-head:6379", 0, 1.0, 120.0)
    assert prod_resources({**PROD, **state, **head, "MNIST_ENGINE": "local"})["engine"].open() == LocalEngine(1)
    chosen = {"MNIST_ENGINE": "ray", "MNIST_WORKERS": "8", "MNIST_WORKER_CPUS": "2", "MNIST_RAY_WAIT_S": "600"}
    chosen |= {"MNIST_SHARD_WAIT_S": "90"}
    assert dev_resources({**state, **head, **chosen})["engine"].open() == RayEngine(
        "ray-head:6379", 8, 2.0, 600.0, 90.0
    )


@pytest.mark.parametrize("address", ["", "auto", "local", "ray://ray-head:10001", "http://ray-head:8265", "ray-head"])
def test_an_address_that_leaves_open_which_cluster_is_joined_fails_at_load(address: str) -> None:
    with pytest.raises(ValueError, match=r"RAY_ADDRESS=.* host:port"):
        dev_resources({"MNIST_ENGINE": "ray", "RAY_ADDRESS": address})
