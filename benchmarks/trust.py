"""`allfocus bench trust`: does `check=True` notice what is wrong, and leave in peace what is right?

A model's outputs on the evaluation set are spoilt in places (see `failures`), and judged. AUC is
the chance that a pixel of a failure is trusted less than one elsewhere: 1 where the two are told
apart without a mistake, 0.5 where not at all.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from allfocus.benchmarks import common
from allfocus.benchmarks.candidates import reproducible
from allfocus.benchmarks.failures import (
    Image,
    Spoilt,
    compared,
    damaged,
    outline,
    painted,
    ringing,
    spoilt,
)
from allfocus.benchmarks.machine import describe, finish
from allfocus.benchmarks.schema import Machine
from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.load import load
from allfocus.train.evaluation_scenes import available, load_photo, photograph
from allfocus.train.evaluation_set import STEREO, Scene

TRUST = "allfocus/trust/1"
FINE = 5.0  # pixels from crest to crest of fine ringing
DAMAGE = "damaged weights"
_PIXELS = 2000  # drawn from each part of each picture: all pictures weigh the same

Trust = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of failure, in all pictures that show it."""

    name: str
    pictures: int
    auc: float  # over the pixels of all pictures together
    lowest_auc: float  # of any picture
    failed: float  # median trust where it failed
    elsewhere: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the command measured."""

    schema: str
    machine: Machine
    model: str
    trusted: float  # median trust in the outputs as they are
    least_trusted: float  # what 5 % of their pixels are under
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Sample:
    """Trust at pixels of one picture: of its failure, and of what is as it was."""

    failed: Trust
    elsewhere: Trust

    @property
    def auc(self) -> float:
        """The chance that a pixel of the failure is trusted less; ties count half."""
        from scipy.stats import mannwhitneyu

        wins = mannwhitneyu(self.elsewhere, self.failed).statistic
        return float(wins / (self.failed.size * self.elsewhere.size))


def failures(image: Image, texture: Image, seed: int) -> dict[str, Spoilt]:
    """`image`, an output, with each kind of failure in places of its own."""
    shape = (image.shape[0], image.shape[1])
    return {
        "ringing": spoilt(image, ringing(image), outline(shape, seed)),
        "fine ringing": spoilt(image, ringing(image, FINE), outline(shape, seed + 1)),
        "painted texture": spoilt(image, painted(image, texture), outline(shape, seed + 2)),
    }


def judge(
    deblur: Deblurrer, damage: Deblurrer, scenes: Iterable[Scene]
) -> Iterator[tuple[dict[str, Sample], Trust]]:
    """For each scene: what each failure is trusted, and the output as it is.

    Damaged weights fail nearly everywhere: they are held against the whole output without damage.
    """
    texture = _unit(load_photo(STEREO))
    for scene in scenes:
        blurry, random = photograph(scene).blurry, np.random.default_rng(scene.seed)
        result = deblur(blurry)
        assert result.trust is not None
        whole = _drawn(result.trust.reshape(-1), random)
        image = _unit(result.image)
        cases = failures(image, texture, scene.seed)
        cases[DAMAGE] = compared(image, _unit(damage(blurry).image))
        found = {}
        for name, case in cases.items():
            trust = deblur.trust(blurry, np.rint(255 * case.image).astype(np.uint8))
            good = whole if name == DAMAGE else _drawn(trust[case.good], random)
            sample = Sample(_drawn(trust[case.failed], random), good)
            if sample.failed.size and sample.elsewhere.size:
                found[name] = sample
        yield found, whole


def measure(model: str, most: int | None, machine: Machine) -> Report:
    """Judge the first `most` scenes of the evaluation set, in fp32 on ONNX Runtime."""
    scenes = available()[0][:most]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backend, precision = reproducible(model, "auto", None)
        opened = partial(load, backend=backend, precision=precision, color="rgb")
        deblur = stack.enter_context(opened(model, check=True))
        broken = damaged(packaged_onnx(model), folder)
        damage = stack.enter_context(opened(broken, canary=False))
        with tqdm(scenes, unit="picture", disable=None) as bar:
            judged = list(judge(deblur, damage, bar))
    whole = np.concatenate([trust for _, trust in judged])
    names = dict.fromkeys(name for found, _ in judged for name in found)
    return Report(
        schema=TRUST,
        machine=finish(machine),
        model=model,
        trusted=float(np.median(whole)),
        least_trusted=float(np.quantile(whole, 0.05)),
        rows=tuple(
            _row(name, [found[name] for found, _ in judged if name in found]) for name in names
        ),
    )


def text(report: Report) -> str:
    """For a terminal."""
    rows = [["failure", "pictures", "AUC", "lowest", "trust there", "elsewhere"]]
    rows += [
        [
            row.name,
            str(row.pictures),
            f"{row.auc:.3f}",
            f"{row.lowest_auc:.3f}",
            f"{row.failed:.2f}",
            f"{row.elsewhere:.2f}",
        ]
        for row in report.rows
    ]
    return (
        f"{common.table(rows)}\n\n{report.model}: outputs as they are have a median trust of "
        f"{report.trusted:.2f}, and 5 % of their pixels one under {report.least_trusted:.2f}"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench trust`."""
    add = parser.add_argument
    add("--model", default="didanet-lite", help="a packaged model (default %(default)s)")
    add("--pictures", type=positive, help="so many scenes only (default: all)")
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    report = measure(args.model, args.pictures, describe())
    common.deliver(report, text(report), args)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("trust", "Are failures noticed?", add_arguments, run, argv)


def _unit(image: NDArray[np.uint8]) -> Image:
    return np.asarray(image, np.float32) / np.float32(255)


def _drawn(trust: Trust, random: np.random.Generator) -> Trust:
    """At most so many of [N], at random."""
    return random.choice(trust, min(_PIXELS, trust.size), replace=False) if trust.size else trust


def _row(name: str, samples: Sequence[Sample]) -> Row:
    failed = np.concatenate([sample.failed for sample in samples])
    elsewhere = np.concatenate([sample.elsewhere for sample in samples])
    return Row(
        name=name,
        pictures=len(samples),
        auc=Sample(failed, elsewhere).auc,
        lowest_auc=min(sample.auc for sample in samples),
        failed=float(np.median(failed)),
        elsewhere=float(np.median(elsewhere)),
    )


if __name__ == "__main__":
    sys.exit(main())
