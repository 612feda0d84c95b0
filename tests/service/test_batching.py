"""Requests that arrive together are one run; each gets its own answer, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from pipelines import Pipeline

from mnist_pipeline.ml.predictor import Predictor
from mnist_pipeline.production import load_production
from mnist_pipeline.service.batching import LARGE, Batcher


@pytest.fixture
def predictor(finished: Pipeline) -> Predictor:
    return load_production(finished.store).predictor


def together(batcher: Batcher, predictor: Predictor, *requests: np.ndarray) -> list[Any]:
    async def ask() -> list[Any]:
        asked = (batcher.probabilities(predictor, images) for images in requests)
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(ask())


def test_requests_of_the_same_moment_share_a_run_and_get_their_own_answers(
    finished: Pipeline, predictor: Predictor
) -> None:
    images = finished.digits()["test"].images
    requests = [images[:1], images[1:4], images[4:6]]
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(16, 0, pool)
        found = together(batcher, predictor, *requests)
    assert (batcher.runs, batcher.images) == (1, 6)
    for images_of, answer in zip(requests, found, strict=True):
        assert answer == pytest.approx(predictor.predict(images_of).probabilities, abs=1e-5)


def test_a_batch_that_is_full_does_not_grow(finished: Pipeline, predictor: Predictor) -> None:
    images = finished.digits()["test"].images[:10]
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(4, 0, pool)
        together(batcher, predictor, *(image[None] for image in images))
    assert (batcher.runs, batcher.images) == (3, 10)


@pytest.mark.parametrize(("counts", "runs"), [((15, 63), 2), ((15, 1, 1), 2), ((63, 15, 1), 2), ((10, 10, 6), 2)])
def test_what_does_not_fit_into_a_batch_is_a_run_of_its_own(
    finished: Pipeline, predictor: Predictor, counts: tuple[int, ...], runs: int
) -> None:
    images = finished.digits()["test"].images
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(16, 0, pool)
        found = together(batcher, predictor, *(images[:count] for count in counts))
    assert (batcher.runs, batcher.images) == (runs, sum(counts))
    assert [len(answer) for answer in found] == list(counts)


def test_one_means_each_by_itself(finished: Pipeline, predictor: Predictor) -> None:
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(1, 0, pool)
        together(batcher, predictor, *(image[None] for image in finished.digits()["test"].images[:5]))
    assert batcher.runs == 5


def test_a_run_waits_for_others_when_told_to(finished: Pipeline, predictor: Predictor) -> None:
    image = finished.digits()["test"].images[:1]

    async def ask(batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.probabilities(predictor, image))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, batcher.probabilities(predictor, image))

    with ThreadPoolExecutor(1) as pool:
        for wait_s, runs in ((0.0, 2), (1.0, 1)):
            batcher = Batcher(16, wait_s, pool)
            asyncio.run(ask(batcher))
            assert batcher.runs == runs


def test_a_large_request_keeps_nobody_waiting(finished: Pipeline, predictor: Predictor) -> None:
    many = np.repeat(finished.digits()["test"].images[:1], LARGE, 0)
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(16, 0, pool)
        (found,) = together(batcher, predictor, many)
    assert len(found) == LARGE
    assert batcher.runs == 0  # but one in a thread


def test_no_images_are_no_run_of_the_network(predictor: Predictor) -> None:
    with ThreadPoolExecutor(1) as pool:
        (found,) = together(Batcher(16, 0, pool), predictor, np.empty((0, 28, 28), np.uint8))
    assert found.shape == (0, 10)


def test_a_failure_is_told_to_everyone_in_the_batch_and_the_next_is_answered(
    finished: Pipeline, predictor: Predictor
) -> None:
    wrong, right = np.zeros((1, 27, 28), np.uint8), finished.digits()["test"].images[:1]
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(16, 0, pool)
        assert [type(each) for each in together(batcher, predictor, wrong, wrong)] == [ValueError] * 2
        (found,) = together(batcher, predictor, right)
    assert found.shape == (1, 10)


def test_a_client_that_has_gone_takes_none_of_the_others_with_it(finished: Pipeline, predictor: Predictor) -> None:
    image = finished.digits()["test"].images[:1]

    async def ask(batcher: Batcher) -> np.ndarray:
        gone = asyncio.create_task(batcher.probabilities(predictor, image))
        stays = asyncio.create_task(batcher.probabilities(predictor, image))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    with ThreadPoolExecutor(1) as pool:
        assert asyncio.run(ask(Batcher(16, 0.01, pool))).shape == (1, 10)
