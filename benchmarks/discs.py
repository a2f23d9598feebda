"""`allfocus bench discs PHOTO ...`: sharp photos, blurred all over by a disc of each radius.

The plainest defocus there is, and the one that a deconvolution with discs is made for: no depth,
nothing in front of anything, one radius everywhere. The photo is blurred in linear light and gets a
sensor's noise; pictures go in and come out as 8 bits. A figure is PSNR in dB against the photo, the
mean over photos.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import cv2
import numpy as np
from tqdm import tqdm

from allfocus.benchmarks import candidates, common, photos
from allfocus.benchmarks.candidates import Candidate, open_classical, open_model, the_input
from allfocus.benchmarks.deconvolution import MAX_RADIUS
from allfocus.benchmarks.machine import describe, finish
from allfocus.benchmarks.quality_schema import Kind
from allfocus.benchmarks.schema import Machine
from allfocus.benchmarks.scoring import Settings, judge
from allfocus.runtime.catalogue import BASELINES
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.errors import UsageError
from allfocus.runtime.spec import Size
from allfocus.train.camera import Noise, take, to_linear
from allfocus.train.evaluation_pair import Frame, Pair
from allfocus.train.psf import Aperture

DISCS = "allfocus/discs/1"
NOISE = Noise(shot=5e-5, read=0.002)  # about a bright day's
_RADII = "0,1,2,3,5,8"
_SIZE = Size(416, 256)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One candidate: its mean PSNR in dB at each of the report's radii."""

    name: str
    kind: Kind
    backend: str | None
    precision: str | None
    weights_sha256: str | None
    psnr_db: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the command measured."""

    schema: str
    machine: Machine
    photos: tuple[str, ...]
    size: str  # the middle of each photo that is judged, at most
    shot_noise: float
    read_noise: float
    radii: tuple[float, ...]  # of the discs, pixels
    rows: tuple[Row, ...]


def blurred(name: str, photo: Frame, radius: float, size: Size, seed: int) -> Pair:
    """The photo as a lens that is out of focus by `radius` pixels takes it: its middle of `size`,
    turned for an upright one. What is beyond the photo's border is taken to mirror it.
    """
    light = to_linear(photo.astype(np.float32) / np.float32(255))
    kernel = Aperture(shape="disc").kernel(radius)
    light = np.asarray(
        cv2.filter2D(light, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.float32
    )
    code = take(np.random.default_rng(seed), light, NOISE, 0.0)
    upright = photo.shape[0] > photo.shape[1]
    whole = Pair(name, np.rint(255 * code).astype(np.uint8), photo, None, None)
    pair = whole.cut(Size(size.height, size.width) if upright else size)
    radii = np.full(pair.blurry.shape[:2], radius, np.float32)
    # a copy: a part that is a view would keep the whole picture in memory, at each radius
    return replace(pair, blurry=pair.blurry.copy(), radius=radii, seen=radii)


def measure(found: Mapping[str, Frame], args: argparse.Namespace, machine: Machine) -> Report:
    """Judge the input, the baselines and the models on all photos at all radii."""
    series = [
        [
            blurred(name, photo, radius, args.size, seed)
            for seed, (name, photo) in enumerate(found.items())
        ]
        for radius in args.radii
    ]
    rows = []
    for opener in _field(args):
        with opener as candidate:
            rows.append(_row(candidate, series))
    return Report(
        schema=DISCS,
        machine=finish(machine),
        photos=tuple(found),
        size=str(args.size),
        shot_noise=NOISE.shot,
        read_noise=NOISE.read,
        radii=args.radii,
        rows=tuple(rows),
    )


def text(report: Report) -> str:
    """For a terminal."""
    rows = [["PSNR (dB) at a radius of", *(f"{radius:g} px" for radius in report.radii)]]
    rows += [[row.name, *(f"{psnr:.2f}" for psnr in row.psnr_db)] for row in report.rows]
    return f"{common.table(rows)}\n\nmeans over {len(report.photos)} photos, {report.size} of each"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench discs`."""
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="sharp ones: files, or folders")
    add("--model", default="didanet-lite", metavar="NAME,...", help="(default %(default)s)")
    add("--map-of", metavar="NAME,...", help="also the baselines under these models' maps")
    add("--baselines", action=argparse.BooleanOptionalAction, default=True)
    add("--radii", type=radii, default=_RADII, metavar="PIXELS,...", help="(default %(default)s)")
    add("--pictures", type=positive, default=10, help="the first so many of a folder (10)")
    text = "only the middle of each photo, at most (%(default)s)"
    add("--size", type=common.size, default=_SIZE, metavar="WxH", help=text)
    add("--reach", type=float, metavar="PIXELS", help="also the models with this reach, that can")
    add("--backend", default="auto", help="of the models (default: ONNX Runtime in fp32)")
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    estimators = _names(args.map_of)
    reaches = candidates.reaches(_names(args.model), args.reach)
    for model in dict.fromkeys((*_names(args.model), *estimators)):
        with open_model(model, args.backend, 0, reach=reaches.get(model)) as candidate:
            _check(candidate, maps=model in estimators)
    report = measure(photos.open_photos(args.photos, args.pictures), args, describe())
    common.deliver(report, text(report), args)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("discs", "Blur of one radius all over.", add_arguments, run, argv)


def radii(text: str) -> tuple[float, ...]:
    """An argparse type: radii in pixels that the baselines take, such as 0,1.5,8."""
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = (-1.0,)
    twice = len(set(values)) < len(values)
    if twice or not all(0 <= value <= MAX_RADIUS for value in values):
        raise argparse.ArgumentTypeError(
            f"expected pixels from 0 to {MAX_RADIUS:g}, each once, such as {_RADII}, got {text!r}"
        )
    return values


def _names(text: str | None) -> list[str]:
    return candidates.names(text, candidates.deblurring()) if text else []


def _check(candidate: Candidate, *, maps: bool) -> None:
    """Before minutes of work."""
    grey = np.full((64, 64, 3), 128, np.uint8)
    if candidate.run(Pair("grey", grey, None, None, None), grey).image is None:
        raise UsageError(f"{candidate.name} gives no picture; take a deblurring model")
    if maps and not candidate.estimates:
        raise UsageError(f"--map-of {candidate.name}: it estimates no blur radii; try didanet-lite")


def _field(args: argparse.Namespace) -> Iterator[AbstractContextManager[Candidate]]:
    """Each is opened when its turn comes."""
    yield nullcontext(the_input())
    maps = [None, *_names(args.map_of)] if args.baselines else _names(args.map_of)
    for model in maps:
        for name in BASELINES:
            yield open_classical(name, model, args.backend, 0)
    models = _names(args.model)
    reaches = candidates.reaches(models, args.reach)
    for model, label in candidates.labels(models).items():
        yield open_model(model, args.backend, 0, label)
        reach = reaches[model]
        if reach is not None:
            yield open_model(model, args.backend, 0, f"{label}, reach {reach:g}", reach=reach)


def _row(candidate: Candidate, series: Sequence[Sequence[Pair]]) -> Row:
    with tqdm(series, desc=candidate.name, unit="radius", disable=None) as bar:
        judged = [judge(candidate, pairs, Settings(), lambda *_: None) for pairs in bar]
    means = [row.similarity for row in judged]
    return Row(
        name=candidate.name,
        kind=candidate.kind,
        backend=candidate.backend,
        precision=candidate.precision,
        weights_sha256=candidate.weights_sha256,
        psnr_db=tuple(mean.psnr_db for mean in means if mean is not None),
    )


if __name__ == "__main__":
    sys.exit(main())
