"""Blur beyond what a model undoes: frames are deblurred at a half, a quarter, an eighth too.

At 1/n of the size blur has 1/n of its radius. What the model changes in the smaller picture is
enlarged and added to the frame, where the maps of both levels say that the blur is beyond the finer
one: detail that is in focus is never reduced. The net takes a quarter of the time at each level of
that at the one before. Ours, in no paper; `allfocus bench discs --reach` shows what it brings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.clock import Clock
from allfocus.runtime.errors import UsageError
from allfocus.runtime.flows import Drawn, Flow
from allfocus.runtime.form import COLOUR, Form
from allfocus.runtime.real import above_zero
from allfocus.runtime.signature import Signature
from allfocus.runtime.spec import Size, Spec
from allfocus.runtime.stage import Stage
from allfocus.runtime.tiling import Tile, Window

MOST = 8  # times the size is reduced at most
HELP = "blur radius to undo, in pixels, where that is beyond the model's own: up to 8 times that"
_BAND = 256  # rows; an even number
_LEAST = 16  # pixels: a smaller side of a picture is not reduced to
# As shares of the largest radius that the finer level undoes: what the maps of the coarser and of
# the finer level must say for the coarser to begin to show, and to show alone.
_COARSE, _FINE = (0.875, 1.125), (0.8, 0.95)


def check(radius: Any) -> float | None:
    """The radius in pixels, or None. Raises UsageError for anything else."""
    if radius is None:
        return None
    found = above_zero(radius)
    if found is None:
        raise UsageError(f"reach: expected a blur radius in pixels above 0, got {radius!r}")
    return found


def levels(radius: float | None, spec: Spec, signature: Signature) -> tuple[int, ...]:
    """How many times smaller the frame is at each level but the first, for a blur of `radius`.

    Raises UsageError where that is too many times, and for a model without a map of radii.
    """
    if radius is None:
        return ()
    own = spec.max_radius
    if "defocus" not in signature.outputs or not own:
        raise UsageError(
            f"reach={radius:g}: {spec.name} makes no map of blur radii, by which its levels are "
            "told apart; take a model that does, such as didanet-lite"
        )
    if radius > MOST * own:
        raise UsageError(
            f"reach={radius:g}: expected up to {MOST * own:g} pixels, {MOST} times what "
            f"{spec.name} undoes; reduce larger pictures first"
        )
    return tuple(n for n in (2, 4, 8) if n * own < 2 * radius)


class Levels(Flow):
    """What `flow` makes of a picture and of smaller ones of it: there is one for each size, and how
    many times smaller that is.
    """

    def __init__(
        self, smaller: tuple[int, ...], flow: Callable[[Size, int], Flow], form: Form
    ) -> None:
        self._smaller = smaller
        self._flow = flow
        self._form = form

    def frames(self, size: Size) -> list[tuple[Stage, Size]]:
        """See Flow."""
        sizes = [(1, size), *_sizes(self._smaller, size, self._form)]
        return [frame for times, each in sizes for frame in self._flow(each, times).frames(each)]

    def draw(self, image: Array, clock: Clock, defocus: Array | None = None) -> Drawn:
        """See Flow. The map goes up to the largest radius of the smallest picture."""
        size = self._form.size(image)
        drawn = self._flow(size, 1).draw(image, clock, defocus)
        sharp, radius = drawn.sharp.copy(), _plane(drawn.defocus)
        for times, reduced in _sizes(self._smaller, size, self._form):
            small = self._form.resized(image, reduced)
            given = None if defocus is None else COLOUR.resized(defocus, reduced) / times
            clock.lap("pre")
            found = self._flow(reduced, times).draw(small, clock, given)
            coarse = times * _enlarged(_plane(found.defocus), size)
            weight = _ramp(coarse * 2 / times, _COARSE) * _ramp(radius * 2 / times, _FINE)
            if weight.any():
                self._blend(self._form.carried(small, found.sharp, image), sharp, weight)
                radius = radius + weight * (coarse - radius)
            clock.lap("post")
        return Drawn(sharp, radius, drawn.focus, drawn.skipped)

    def _blend(self, above: Array, under: Array, weight: Array) -> None:
        """Lay `weight` [H, W] of `above` over `under`, by bands: floats of a large picture are
        several times its size."""
        height, width = weight.shape
        for top in range(0, height, _BAND):
            band = Window(0, top, width, min(_BAND, height - top))
            part = band.of(weight)
            if part.any():
                first, second = (self._form.cut(each, band) for each in (above, under))
                mixed = self._form.blended(first, second, part)
                self._form.put(Tile(band, band), mixed, under)


def trusted(
    judge: Callable[[Array, Array], Array],
    image: Array,
    drawn: Drawn,
    smaller: tuple[int, ...],
    form: Form,
) -> Array:
    """What `judge` says of what was drawn of `image`, [H, W].

    A reblurring net knows no wider blur than the nets: wider one is judged at the size at which it
    was undone.
    """
    found = judge(image, drawn.sharp)
    size = form.size(image)
    for times, reduced in _sizes(smaller, size, form):
        weight = _ramp(_plane(drawn.defocus) * 2 / times, _COARSE)
        if weight.any():
            frame, sharp = (form.resized(each, reduced) for each in (image, drawn.sharp))
            found = found + weight * (_enlarged(judge(frame, sharp), size) - found)
    return found


def _sizes(smaller: tuple[int, ...], size: Size, form: Form) -> list[tuple[int, Size]]:
    """The levels that a picture of `size` has."""
    enough = min(size.width, size.height)
    return [(n, form.reduced(size, n)) for n in smaller if enough >= _LEAST * n]


def _plane(defocus: Array | None) -> Array:
    return np.asarray(defocus, np.float32)


def _enlarged(plane: Array, size: Size) -> Array:
    return np.asarray(cv2.resize(plane, (size.width, size.height)))


def _ramp(values: Array, ends: tuple[float, float]) -> Array:
    """From 0 to 1 between both ends."""
    low, high = ends
    return np.asarray(np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1))
