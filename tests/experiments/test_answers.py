"""What MLflow or a proxy before it answers, over real sockets: waiting, putting aside, or somebody has to look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from mlflow_places import BEGUN_MS, Place, Server, copied_store, file_store, free_port
from pipelines import Pipeline
from s3_server import Answer, Proxy, Request, proxy_before

from mnist_pipeline.experiments.answers import as_away, is_for_good
from mnist_pipeline.experiments.courier import send
from mnist_pipeline.experiments.refused import Refused

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*")  # mlflow's use of SQLAlchemy


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    server = Server(folder, copied_store(file_store(folder / "template"), folder))
    server.start()
    yield server.uri
    server.kill()


@pytest.fixture
def between(uri: str) -> Iterator[Proxy]:
    with proxy_before(uri) as made:
        yield made


@pytest.fixture
def place(between: Proxy, tmp_path: Path) -> Place:
    return Place(tmp_path, between.endpoint)


def says(status: int, path: str, body: str = "") -> Callable[[Request], Answer | None]:
    """Every request whose path holds `path` is answered so; without a code there is no body, as in HTML."""
    return lambda request: Answer(status, code=body) if path in request.path else None


def record(place: Place) -> tuple[str, str]:
    """Two runs, in the order in which they are sent: a picture and then a number, and a number."""
    first, second = sorted((str(uuid4()), str(uuid4())))
    with place.tracker(first) as tracker:
        tracker.artifact("pictures/large.png", b"png")
        tracker.metrics({"loss": 1.0}, step=1)
    with place.tracker(second) as tracker:
        tracker.metrics({"loss": 2.0}, step=1)
    return first, second


# --- one error ---


@pytest.mark.parametrize(
    ("status", "meant"),
    [
        *((status, "away") for status in (408, 425, 429, 500, 502, 503, 504, 520)),
        *((status, "somebody") for status in (401, 403, 407, 409)),
        *((status, "for good") for status in (400, 404, 405, 413, 414, 422, 431)),
    ],
)
def test_what_a_proxy_means_by_a_status(status: int, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with proxy_before("http://127.0.0.1:9") as proxy:
        proxy.fault = lambda request: Answer(status, code="Nginx")
        with pytest.raises(MlflowException) as caught:
            _client(proxy.endpoint).get_run("some-run")
    error = caught.value
    found = "away" if as_away(error, proxy.endpoint) else "for good" if is_for_good(error) else "somebody"
    assert found == meant


def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(uri, uri)


def test_no_connection_is_absence_and_a_login_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    from mlflow.exceptions import MlflowException

    uri = f"http://user:secret@127.0.0.1:{free_port()}"
    with pytest.raises(MlflowException) as caught:
        _client(uri).get_run("some-run")
    assert "refused" in as_away(caught.value, uri)
    assert "secret" not in as_away(caught.value, uri)
    assert not is_for_good(caught.value)


# --- what comes of it, with a real server behind the proxy ---


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_is_refused_for_good_is_put_aside_and_holds_nothing_up(place: Place, between: Proxy, status: int) -> None:
    first, second = record(place)
    between.fault = says(status, "large.png")
    report = send(replace(place.order, ended={first: ("FINISHED", BEGUN_MS)}))
    assert (report.sent, report.refused, report.closed, report.waiting, report.away) == (2, 1, 1, 0, "")
    assert place.history("loss", first) == [(1, 1.0)]
    assert place.history("loss", second) == [(1, 2.0)]
    assert f": {status} " in Refused(place.spool).told()
    between.fault = says(200, "nowhere")
    assert Refused(place.spool).retry() == 1
    report = send(replace(place.order, ended={first: ("FINISHED", BEGUN_MS)}))
    assert (report.sent, report.closed, report.waiting) == (1, 1, 0)
    (picture,) = place.client.list_artifacts(place.run(first).info.run_id, "pictures")
    assert picture.path == "pictures/large.png"


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 500, 503])
def test_what_may_be_cured_waits_and_holds_up_only_its_own_run(place: Place, between: Proxy, status: int) -> None:
    """The server is well but for this one request: so it is no outage, and somebody should know."""
    first, second = record(place)
    between.fault = says(status, "large.png")
    report = send(place.order)
    assert (report.sent, report.refused, report.waiting, report.away) == (1, 0, 2, "")
    (problem,) = report.problems
    assert f"run {first} could not be sent and waits in {place.order.spool}" in problem
    assert place.history("loss", second) == [(1, 2.0)]
    between.fault = says(200, "nowhere")
    assert send(place.order).sent == 2


@pytest.mark.slow
@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_whose_server_is_gone_is_absence(place: Place, between: Proxy, status: int) -> None:
    record(place)
    between.fault = says(status, "/", "BadGateway")
    report = send(place.order)
    assert (report.away, report.waiting, report.problems) == (f"it answers {status}", 3, [])
    between.fault = says(status, "/api/", "BadGateway")  # only a sign of life comes through
    report = send(place.order)
    assert str(status) in report.away
    assert (report.waiting, report.problems) == (3, [])


@pytest.mark.slow
def test_a_version_that_mlflow_refuses_keeps_the_others_and_the_aliases(
    place: Place, between: Proxy, pipeline: Pipeline
) -> None:
    refused = pipeline.variant(lambda network: network.classifier.bias.add_(0.01))
    between.script(Answer(413), only=lambda request: "version/card.json" in request.path)
    order = replace(place.order, models=(str(pipeline.state / "models"), ""))
    report = send(order)
    assert report.registered == 1
    (problem,) = report.problems
    assert "MLflow refuses to register the version" in problem
    assert "413" in problem
    report = send(order)
    assert (report.registered, report.problems) == (1, [])
    champion = place.client.get_model_version_by_alias("digit_classifier", "champion")
    assert champion.tags["version"] == pipeline.store.production() != refused
