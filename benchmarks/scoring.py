"""From what candidates make of pictures to the rows of a quality report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from allfocus.benchmarks.candidates import Candidate, Given, Output, real
from allfocus.benchmarks.perceptual import Distance
from allfocus.benchmarks.quality_schema import MapError, Picture, QualityRow, Similarity
from allfocus.benchmarks.tallies import Bands, Focus
from allfocus.runtime.errors import AllfocusError
from allfocus.train import metrics
from allfocus.train.bands import HIGHEST_PSNR, Real
from allfocus.train.evaluation_pair import Pair
from allfocus.train.flow_truth import deformed

Look = Callable[[int, Pair, Output], object]  # what else is done with each output
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How candidates are judged.

    `float_output`: pictures go in and come out as float32 instead of 8 bits. `deform`: also
    against the truth warped onto the output. `lpips`: the distance, where it can be had.
    """

    float_output: bool = False
    deform: bool = False
    lpips: Distance | None = None


def judge(
    candidate: Candidate, pairs: Iterable[Pair], settings: Settings, look: Look
) -> QualityRow:
    """Run `candidate` on every pair and measure.

    Raises AllfocusError with the candidate's and the picture's name where it fails or gives
    something that is no picture: what failed is no zero in a mean.
    """
    pictures, bands, focus = [], Bands(), Focus()
    for index, pair in enumerate(pairs):
        given = real(pair.blurry) if settings.float_output else pair.blurry
        output = _run(candidate, pair, given)
        look(index, pair, output)
        image = None if output.image is None else np.clip(real(output.image), 0, 1)
        pictures.append(_picture(candidate, pair, output, image, settings))
        bands.add(pair, image if pair.sharp is not None else None)
        focus.add(pair, output, candidate.max_radius)
    return QualityRow(
        name=candidate.name,
        kind=candidate.kind,
        backend=candidate.backend,
        precision=candidate.precision,
        weights=candidate.weights,
        weights_sha256=candidate.weights_sha256,
        max_radius=candidate.max_radius or None,
        similarity=_mean_similarity([p.similarity for p in pictures]),
        deformed=_mean_similarity([p.deformed for p in pictures]),
        map=_mean_map([p.map for p in pictures]),
        detection=focus.detection(),
        whole=bands.whole(),
        bands=bands.each(),
        pictures=tuple(pictures),
    )


def _run(candidate: Candidate, pair: Pair, given: Given) -> Output:
    """The candidate's output, checked; maps cut to the picture's size."""
    where = f"{candidate.name} on {pair.name}"
    try:
        output = candidate.run(pair, given)
    except Exception as error:
        raise AllfocusError(f"{where}: {error}") from error
    height, width = pair.blurry.shape[:2]
    image, planes = output.image, (output.defocus, output.focus)
    if image is not None and image.shape != given.shape:
        raise AllfocusError(f"{where}: expected a picture {given.shape}, got {image.shape}")
    defocus, focus = (None if plane is None else plane[:height, :width] for plane in planes)
    for array in (image, defocus, focus):
        if array is not None and not np.isfinite(array).all():
            raise AllfocusError(f"{where}: the output has values that are no numbers (NaN, inf)")
    return Output(image=image, defocus=defocus, focus=focus)


def _picture(
    candidate: Candidate, pair: Pair, output: Output, image: Real | None, settings: Settings
) -> Picture:
    plain = warped = None
    if image is not None and pair.sharp is not None:
        truth = real(pair.sharp)
        plain = _similarity(image, truth, settings)
        if settings.deform:
            warped = _similarity(image, deformed(truth, image), settings)
    error = None
    if output.defocus is not None and pair.radius is not None and candidate.max_radius:
        maps = (np.clip(m / candidate.max_radius, 0, 1) for m in (output.defocus, pair.radius))
        found, true = maps
        error = MapError(mae=metrics.mae(found, true), mse=metrics.mse(found, true))
    return Picture(name=pair.name, similarity=plain, deformed=warped, map=error)


def _similarity(image: Real, truth: Real, settings: Settings) -> Similarity:
    return Similarity(
        psnr_db=min(HIGHEST_PSNR, metrics.psnr(image, truth)),
        ssim=metrics.ssim(image, truth),
        mae=metrics.mae(image, truth),
        lpips=None if settings.lpips is None else settings.lpips(image, truth),
    )


def _all_there(items: Sequence[T | None]) -> list[T]:
    """The items, or none at all where one is missing: means are over the same pictures."""
    there = [item for item in items if item is not None]
    return there if len(there) == len(items) else []


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _mean_similarity(items: Sequence[Similarity | None]) -> Similarity | None:
    there = _all_there(items)
    if not there:
        return None
    distances = _all_there([s.lpips for s in there])
    return Similarity(
        psnr_db=_mean(s.psnr_db for s in there),
        ssim=_mean(s.ssim for s in there),
        mae=_mean(s.mae for s in there),
        lpips=_mean(distances) if distances else None,
    )


def _mean_map(items: Sequence[MapError | None]) -> MapError | None:
    there = _all_there(items)
    if not there:
        return None
    return MapError(mae=_mean(m.mae for m in there), mse=_mean(m.mse for m in there))
