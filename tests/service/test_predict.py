"""`POST /predict`: whatever way an image comes, it gets the answer that the nightly batch gives it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from pipelines import Pipeline
from served import RAW, pixels, served
from starlette.testclient import TestClient

from mnist_pipeline.ml.images import read_image
from mnist_pipeline.production import load_production


@pytest.fixture(scope="module")
def client(first_run: tuple[Pipeline, object]) -> Iterator[TestClient]:
    with served(first_run[0].state, log=False) as found:
        yield found


@pytest.fixture(scope="module")
def image(first_run: tuple[Pipeline, object]) -> np.ndarray:
    return first_run[0].digits()["test"].images[3]


def png(image: np.ndarray, mode: str | None = None, side: int | None = None) -> bytes:
    picture = Image.fromarray(image)
    picture = picture.resize((side, side), Image.Resampling.BICUBIC) if side else picture
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, "PNG")
    return buffer.getvalue()


def test_pixels_json_base64_and_a_file_get_one_answer(
    client: TestClient, image: np.ndarray, finished: Pipeline
) -> None:
    production = load_production(finished.store)
    expected = production.predictor.predict(image[None])
    label = production.card.class_names[int(expected.labels[0])]
    encoded = base64.b64encode(png(image)).decode()
    for body, headers in (
        (image.tobytes(), RAW),
        (pixels(image), {"Content-Type": "application/json"}),
        (json.dumps({"pixels": image.ravel().tolist()}), {"Content-Type": "application/json"}),
        (json.dumps({"image": encoded}), {"Content-Type": "application/json"}),
        (
            json.dumps({"image": f"data:image/png;base64,{encoded}"}),
            {"Content-Type": "application/json; charset=utf-8"},
        ),
        (png(image), {"Content-Type": "image/png"}),
        (png(image), {"Content-Type": "application/x-www-form-urlencoded"}),  # what curl says of --data-binary
    ):
        answer = client.post("/predict", content=body, headers=headers).json()
        assert (answer["label"], answer["confidence"]) == (label, pytest.approx(float(expected.confidence[0])))
        assert list(answer["probabilities"].values()) == pytest.approx(expected.probabilities[0].tolist())


def test_an_answer_says_who_gave_it(client: TestClient, image: np.ndarray, finished: Pipeline) -> None:
    response = client.post("/predict", content=image.tobytes(), headers={**RAW, "X-Request-Id": "mine-1"})
    answer, production = response.json(), load_production(finished.store)
    assert answer["model_version"] == production.card.name
    assert (answer["decision"], answer["served_by"], answer["request_id"]) == (1, "champion", "mine-1")
    assert response.headers["x-request-id"] == "mine-1"
    assert 0 < answer["milliseconds"] < 60_000


def test_an_id_that_could_not_be_written_anywhere_is_replaced(client: TestClient, image: np.ndarray) -> None:
    answer = client.post("/predict", content=image.tobytes(), headers={**RAW, "X-Request-Id": "a b<c>"}).json()
    assert answer["request_id"].isalnum()


def test_what_the_network_saw_is_told_when_asked_for(client: TestClient, image: np.ndarray) -> None:
    drawing = png(255 - image, side=280)
    answer = client.post("/predict?seen=true", content=drawing).json()
    assert np.array_equal(np.array(answer["seen"]), read_image(drawing))
    assert "seen" not in client.post("/predict", content=drawing).json()
    assert client.post("/predict?seen=perhaps", content=drawing).status_code == 400


def test_many_images_are_answered_in_their_order(client: TestClient, finished: Pipeline) -> None:
    images = finished.digits()["test"].images[:70]  # more than are run at once
    expected = load_production(finished.store).predictor.predict(images)
    names = load_production(finished.store).card.class_names
    labels = [names[i] for i in expected.labels]
    listed = json.dumps({"images": [{"pixels": image.tolist()} for image in images]})
    form = [("f", (f"{i}.png", png(image), "image/png")) for i, image in enumerate(images[:5])]
    for response, count in (
        (client.post("/predict", content=images.tobytes(), headers=RAW), 70),
        (client.post("/predict", content=listed, headers={"Content-Type": "application/json"}), 70),
        (client.post("/predict", files=form), 5),
    ):
        assert [each["label"] for each in response.json()["predictions"]] == labels[:count]


def test_one_image_in_a_list_is_a_list_of_one(client: TestClient, image: np.ndarray) -> None:
    answer = client.post("/predict", json={"images": [{"pixels": image.tolist()}]}).json()
    assert len(answer["predictions"]) == 1


def test_texts_in_a_form_are_let_pass(client: TestClient, image: np.ndarray) -> None:
    file = {"file": ("7.png", png(image), "image/png")}
    assert client.post("/predict", files=file, data={"name": "a seven", "page": "2"}).json()["label"] is not None


def test_one_file_in_a_form_is_one_answer(client: TestClient, image: np.ndarray) -> None:
    assert client.post("/predict", files={"file": png(image)}).json()["label"]


@pytest.mark.parametrize(("mode", "side"), [("RGB", 200), ("RGBA", 300), ("L", 28), ("P", 64), ("1", 120)])
def test_pictures_of_all_kinds_get_the_answer_of_the_front_door(
    client: TestClient, image: np.ndarray, finished: Pipeline, mode: str, side: int
) -> None:
    data, production = png(255 - image, mode, side), load_production(finished.store)
    seen = read_image(data)
    assert seen is not None
    label = production.card.class_names[int(production.predictor.predict(seen[None]).labels[0])]
    assert client.post("/predict", content=data).json()["label"] == label


def photos(image: np.ndarray) -> dict[str, bytes]:
    """The same digit as cameras, scanners and drawing programs would hand it over."""
    grey = Image.fromarray(255 - image).resize((140, 140), Image.Resampling.BICUBIC)
    turned, upright = Image.Exif(), grey.transpose(Image.Transpose.ROTATE_90)
    turned[0x0112] = 6  # a phone held upright: to be turned by 270° to be seen
    ink = Image.new("LA", grey.size, (0, 255))
    ink.putalpha(Image.fromarray(255 - np.array(grey)))
    deep = Image.fromarray(np.array(grey).astype(np.uint16) * 257)
    made = {
        "CMYK": (grey.convert("CMYK"), "JPEG", {}),
        "16 bits": (deep, "PNG", {}),
        "animated": (grey, "GIF", {"save_all": True, "append_images": [grey.rotate(90)]}),
        "ink on transparency": (ink, "PNG", {}),
        "held upright": (upright, "JPEG", {"exif": turned}),
        "tiny": (grey.resize((12, 12)), "PNG", {}),
    }
    found = {}
    for name, (picture, kind, options) in made.items():
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        found[name] = buffer.getvalue()
    return found


@pytest.mark.parametrize("name", ["CMYK", "16 bits", "animated", "ink on transparency", "held upright", "tiny"])
def test_odd_kinds_of_images_are_read_as_they_look(client: TestClient, image: np.ndarray, name: str) -> None:
    plain = client.post("/predict", content=png(255 - image, side=140)).json()
    odd = client.post("/predict", content=photos(image)[name]).json()
    assert odd["label"] == plain["label"]


def test_where_there_is_no_digit_that_is_the_answer(client: TestClient, image: np.ndarray) -> None:
    blank = np.zeros((28, 28), np.uint8)
    answer = client.post("/predict", content=blank.tobytes(), headers=RAW).json()
    assert answer["label"] is answer["confidence"] is answer["probabilities"] is None
    assert "no digit" in answer["reason"]
    two = client.post("/predict", content=blank.tobytes() + image.tobytes(), headers=RAW).json()["predictions"]
    assert two[0]["label"] is None
    assert two[1]["label"] == client.post("/predict", content=image.tobytes(), headers=RAW).json()["label"]


def test_without_a_model_it_says_what_to_do_and_begins_by_itself(fresh: Pipeline, finished: Pipeline) -> None:
    from shutil import copytree

    with served(fresh.state) as client:
        nothing = client.post("/predict", content=bytes(784), headers=RAW)
        assert nothing.status_code == 503
        assert "make run" in nothing.json()["error"]
        assert nothing.headers["retry-after"]
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200
        copytree(finished.state / "models", fresh.state / "models", dirs_exist_ok=True)
        from processes import wait

        wait("a model", lambda: client.get("/ping").status_code == 200, 10, every=0.1)
