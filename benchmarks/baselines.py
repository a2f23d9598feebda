"""The classical baselines as objects that a caller uses like models: frames in, sharp frames out.

The papers call them "defocus map + deconvolution". The map is that of a net, or one that is given.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from allfocus.benchmarks.deconvolution import DEFAULT, MAX_RADIUS, Config, Image, deconvolve
from allfocus.runtime.backend import Array
from allfocus.runtime.catalogue import BASELINES
from allfocus.runtime.closing import Closing
from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import AllfocusError, UsageError, nearest
from allfocus.runtime.frame import checked, from_color, peak, to_color
from allfocus.runtime.load import load
from allfocus.runtime.skip import AUTO, Choice
from allfocus.runtime.spec import Color, Wanted


class Baseline(Closing):
    """A deconvolution and where its map comes from: `baseline(frame) -> Result`.

    Made by `open_baseline`; closes with `with`. One thread deconvolves, whatever the model uses.
    """

    def __init__(self, name: str, estimator: Deblurrer | None, config: Config = DEFAULT) -> None:
        self.name = name
        self.config = config
        self.estimator = estimator

    def __call__(self, frame: Any, radius: Array | None = None) -> Result:
        """Deblur one frame, as a Deblurrer does: uint8 [H, W, 3], of any size.

        Also uint16, float32, grey and alpha, as far as the estimator takes them. `radius`: float32
        [H, W], blur radius in pixels, instead of the estimator's map. The Result's `defocus` is the
        map that was used, and of its timings `pre` holds the map: the estimator's whole call.
        Raises InputError for a frame or a map that cannot be used.
        """
        start = perf_counter()
        given = checked(frame, "float")
        defocus = self._estimate(given) if radius is None else np.asarray(radius, np.float32)
        color = to_color(given)
        white = np.float32(peak(given.dtype))
        image = np.divide(color, white, dtype=np.float32)
        packed = perf_counter()
        sharp = deconvolve(image, defocus, self.name, self.config)
        inferred = perf_counter()
        levels = sharp if given.dtype == np.float32 else np.rint(sharp * white)
        picture = from_color(levels.astype(given.dtype), given)
        seconds = (packed - start, inferred - packed, perf_counter() - inferred)
        stages = zip(("pre", "infer", "post"), seconds, strict=True)
        return Result(picture, defocus, {stage: 1e3 * took for stage, took in stages})

    def _estimate(self, frame: Array) -> Image:
        if self.estimator is None:
            raise UsageError(
                f"{self.name} was opened without a model: give the map of blur radii with the "
                f'frame, or open_baseline("{self.name}", model="didanet")'
            )
        defocus = self.estimator(frame).defocus
        if defocus is None:
            raise _no_map(self.name, self.estimator)
        # A net's map may be off; a slip of it must not stop the picture.
        return np.asarray(np.clip(defocus, 0, MAX_RADIUS), np.float32)

    def close(self) -> None:
        """Release the estimator; a second call does nothing."""
        if self.estimator is not None:
            self.estimator.close()


def open_baseline(
    name: str,
    *,
    model: str | Path | None = "didanet",
    backend: str = "auto",
    precision: Wanted = "auto",
    color: Color = "bgr",
    threads: int = 0,
    skip: Choice = AUTO,
    config: Config = DEFAULT,
) -> Baseline:
    """The baseline `name`, one of BASELINES, under the map of `model`.

    `model`, `backend`, `precision`, `color`, `threads` and `skip` are those of `allfocus.load`;
    without a model every call gives its map. Raises UsageError for a name that is none and for a
    model without a map, AllfocusError where SciPy is missing, and what loading the model raises.
    """
    if name not in BASELINES:
        raise UsageError(f"unknown baseline {name!r}: {nearest(name, BASELINES)}")
    _require()
    if model is None:
        return Baseline(name, None, config)
    estimator = load(
        model, backend=backend, precision=precision, color=color, threads=threads, skip=skip
    )
    if not estimator.spec.max_radius:
        estimator.close()
        raise _no_map(name, estimator)
    return Baseline(name, estimator, config)


def _no_map(name: str, estimator: Deblurrer) -> UsageError:
    return UsageError(
        f"{name} needs a map of blur radii, and {estimator.spec.name} estimates none: take a model "
        "with a map, such as didanet"
    )


def _require() -> None:
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise AllfocusError(
            f'classical baselines need SciPy ({error}): pip install "allfocus[bench]"'
        ) from error
