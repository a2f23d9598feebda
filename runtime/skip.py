"""Work only where a frame is blurred: what the map says is sharp is passed through."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.errors import UsageError
from allfocus.runtime.real import real
from allfocus.runtime.signature import Signature
from allfocus.runtime.spec import Spec

AUTO, OFF = "auto", "off"
RADIUS = 0.5  # pixels: under it a net that promises nothing is left out; see docs/results.md
FOCUS = 0.5  # the focus over which a pixel is left out, where a model tells that: rather in it
FADE = 16  # pixels over which the result of such a net gives way to the input
REACH = 24  # pixels seen around a part: what lies beyond changes one level in a few samples
SPECK = 0.5  # pixels: a patch that nowhere exceeds the radius by so much is noise of the map

HELP = (
    "pass through what is in focus: auto, off, or up to which blur radius in pixels (%(default)s)"
)

Choice = str | float  # "auto", "off", or a blur radius in pixels


@dataclass(frozen=True)
class Skip:
    """Which pixels of a map need no work, and how the border to them is hidden.

    `level`: of the graph's map, up to which a pixel is passed through; of a focus map, from which
    on. `fade`: pixels over which results give way to the input; 0 where they equal it there.
    `sure`: of the map; a patch of pixels over `level` of which none is over this is left out too.
    """

    level: float
    fade: int
    of_focus: bool = False
    sure: float | None = None

    def active(self, plane: Array) -> Array:
        """Where there is work, [H, W]."""
        if self.of_focus:
            return np.asarray(plane < self.level)
        found = np.asarray(plane > self.level)
        return found if self.sure is None else _holding(found, plane > self.sure)


def skip_for(choice: Choice, spec: Spec, signature: Signature) -> Skip | None:
    """What `choice` means for a model; None where nothing is left out.

    Raises UsageError for what is no choice, and for a radius where a model estimates none.
    """
    choice = check(choice)
    if choice == OFF or not {"defocus", "focus"} & set(signature.outputs):
        if not isinstance(choice, str):
            raise UsageError(f"skip={choice:g}: {spec.name} makes no map; leave it at 'auto'")
        return None
    if "focus" in signature.outputs:
        if choice != AUTO:
            raise UsageError(
                f"skip={choice}: {spec.name} tells what is in focus, not a radius; choose auto, off"
            )
        return Skip(FOCUS, FADE, of_focus=True)
    known = MODELS.get(spec.name)
    untouched = known.untouched if known else 0.0
    radius = (untouched or RADIUS) if isinstance(choice, str) else choice
    sure = (radius + SPECK) / spec.max_radius if choice == AUTO else None
    return Skip(radius / spec.max_radius, 0 if radius <= untouched else FADE, sure=sure)


def at_level(choice: Choice, times: int) -> Choice:
    """`choice` for a picture `times` times smaller: a radius in pixels of the frame is less there.

    "auto" is about what the net leaves as it is, at any size.
    """
    return choice if isinstance(choice, str) else choice / times


def _holding(pixels: Array, seeds: Array) -> Array:
    """The patches of `pixels` [H, W], joined at edges and corners, that hold any of `seeds`.

    Patches are left out as wholes, since at their own borders the net begins with nothing: no seam.
    """
    count, labels = cv2.connectedComponents(pixels.astype(np.uint8), connectivity=8)
    kept = np.zeros(count, bool)
    kept[labels[seeds]] = True
    kept[0] = False  # what lies around the patches
    return np.asarray(kept[labels])


def check(choice: Choice) -> Choice:
    """The choice, a radius as a float. Raises UsageError for neither "auto", "off" nor a radius."""
    if isinstance(choice, str) and choice in (AUTO, OFF):
        return choice
    radius = real(choice)
    if radius is None or not 0 <= radius < float("inf"):
        raise UsageError(f"skip: expected auto, off or a blur radius in pixels, got {choice!r}")
    return radius


def argument(text: str) -> Choice:
    """From a command line, as a type for argparse."""
    try:
        return check(text if text in (AUTO, OFF) else float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected auto, off or a radius, got {text!r}") from None
