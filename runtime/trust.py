"""Does an output explain its input? It is blurred again, as the input was, and compared.

A reblurring net sees both pictures and chooses for each pixel an isotropic kernel that makes one of
the other (JDRL, Li et al., AAAI 2023, eq. 6-9). Where none does, something stands in the output
that the lens cannot have turned into the input: ringing, drawn texture, another colour. No truth is
needed. What a blur destroys altogether, such as ripples finer than it, cannot be told in this way.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.clock import Clock
from allfocus.runtime.decoded import colours
from allfocus.runtime.errors import UsageError
from allfocus.runtime.flows import everywhere
from allfocus.runtime.form import form_of
from allfocus.runtime.real import real
from allfocus.runtime.spec import Graph, Size
from allfocus.runtime.stage import Stage

CHECKER = "jdrl-reblur"

_NOISE = 0.015  # of white: what an exact output may be off by anywhere
_SHARE = 0.2  # ... and where the input has detail, of its deviation
_DETAIL = 8.0  # pixels: detail is what a Gaussian of this deviation takes away
_GRAIN = 1.0  # pixels: what is finer is noise, which no output has
_AROUND = 5.0  # pixels: deviations are taken under a Gaussian of this deviation


class Checker:
    """Judges the pictures of the graph `judged` by a reblurring net that `stage` runs, in tiles
    where its budget asks it. Pictures lie as they do beside `judged`."""

    def __init__(self, stage: Stage, judged: Graph) -> None:
        self._stage = stage
        self._judged = judged
        self._levels = stage.backend.graph.io == "frame"  # then it takes 8 bits only

    def frames(self, size: Size) -> list[tuple[Stage, Size]]:
        """See Flow: the reblurring net alone."""
        return [(self._stage, self._stage.grown(size))]

    def trust(self, blurry: Array, sharp: Array, clock: Clock) -> Array:
        """float32 [H, W] in 0 to 1, of two pictures of one size and type: see `trust`."""
        given = colours(blurry, self._judged)
        pictures = {"sharp": colours(sharp, self._judged), "blurry": given}
        entered = {name: self._enter(unit) for name, unit in pictures.items()}
        again = everywhere(self._stage, entered, clock)["reblurred"]
        found = trust(given, colours(again, self._stage.backend.graph))
        clock.lap("post")
        return found

    def fallen_back(self, blurry: Array, sharp: Array, trusted: Array, fallback: float) -> Array:
        """`sharp` where `trusted` is at least `fallback`; under it the more of `blurry`, the less
        it is trusted."""
        share = np.minimum(trusted / np.float32(fallback), 1)
        return form_of("sharp", self._judged.io).blended(sharp, blurry, share)

    def _enter(self, unit: Array) -> Array:
        return np.rint(255 * unit).astype(np.uint8) if self._levels else unit


def trust(blurry: Array, again: Array) -> Array:
    """How well a blurry frame is met by an output that was blurred again, float32 [H, W] in 0 to 1.

    Both are float32 [H, W, 3] in [0, 1]. 1: not off at all; 0.5: as far off as a good output may
    be, which is more where the frame has detail; 0: far more.
    """
    off = _spread(cv2.GaussianBlur(again - blurry, (0, 0), _GRAIN) ** 2)
    detail = _spread((blurry - cv2.GaussianBlur(blurry, (0, 0), _DETAIL)) ** 2)
    allowed = np.float32(_NOISE**2) + np.float32(_SHARE**2) * detail
    return np.asarray(allowed / (allowed + off), np.float32)


def check_fallback(fallback: float | None) -> float | None:
    """The fallback as a float. Raises UsageError for what is no trust."""
    if fallback is None:
        return None
    trusted = real(fallback)
    if trusted is None or not 0 < trusted <= 1:
        raise UsageError(f"fallback: expected a trust above 0, up to 1, got {fallback!r}")
    return trusted


def argument(text: str) -> float:
    """A fallback from a command line, as a type for argparse."""
    try:
        fallback = float(text)
        check_fallback(fallback)
    except ValueError:
        message = f"expected a trust above 0, up to 1, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return fallback


def _spread(squares: Array) -> Array:
    """The mean over channels and a neighbourhood, [H, W]."""
    return np.asarray(cv2.GaussianBlur(squares.mean(2), (0, 0), _AROUND))
