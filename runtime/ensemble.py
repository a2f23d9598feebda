"""Self-ensemble: a picture is deblurred as it lies and turned, and the mean is taken.

Timofte et al., "Seven ways to improve example-based single image super resolution", CVPR 2016; the
"+" behind names in EDSR's and many later tables. What a net gets wrong depends on how a picture
lies, and some of it cancels. It takes as many times as long; a quarter turn brings most of it.
Where a map is estimated first, that alone may be done on the picture turned too, for a fraction of
the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from allfocus.runtime.backend import Array, Backend
from allfocus.runtime.clock import Clock
from allfocus.runtime.errors import UsageError
from allfocus.runtime.flows import Drawn, Flow
from allfocus.runtime.form import COLOUR, Form
from allfocus.runtime.real import whole
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Size
from allfocus.runtime.stage import Stage
from allfocus.runtime.turn import Turn

Map: TypeAlias = Literal["map"]
Ensemble: TypeAlias = int | Map

COUNTS = (1, 2, 4, 8)
MAP: Map = get_args(Map)[0]
HELP = (
    "2, 4 or 8: deblur each turned too, and take the mean; as many times as long. "
    f"{MAP}: only the map is that of two (%(default)s)"
)
_ALL = tuple(Turn(quarters, mirrored) for mirrored in (False, True) for quarters in range(4))


def check(ensemble: Any) -> Ensemble:
    """How many passes, or MAP: one under a map of two. Raises UsageError for anything else."""
    if isinstance(ensemble, str) and ensemble == MAP:
        return MAP
    number = whole(ensemble, 1)
    if number not in COUNTS:
        raise UsageError(f"ensemble: expected one of {(*COUNTS, MAP)}, got {ensemble!r}")
    return number


def argument(text: str) -> Ensemble:
    """From a command line, as a type for argparse."""
    try:
        return check(text if text == MAP else int(text))
    except ValueError:
        expected = f"expected one of {', '.join(map(str, (*COUNTS, MAP)))}, got {text!r}"
        raise argparse.ArgumentTypeError(expected) from None


def turns(ensemble: Ensemble) -> tuple[Turn, ...]:
    """How a picture is laid: 1, as it is; 2, by a quarter turn too; 4, by each; 8, mirrored too."""
    return _ALL[:1] if ensemble == MAP else _ALL[:ensemble]


def looks(ensemble: Ensemble) -> tuple[Turn, ...]:
    """How a picture that is laid so is laid for its map, of which the mean is taken."""
    return _ALL[:2] if ensemble == MAP else _ALL[:1]


def check_looks(model: Backend, *, phased: bool) -> None:
    """Raise UsageError where `model` has no map that could be that of two."""
    name, outputs = model.spec.name, model.graph.signature.outputs
    if not any(KINDS[output] == "plane" for output in outputs):
        raise UsageError(
            f"ensemble={MAP!r}: {name} estimates no map; take a number of passes, such as 2, or a "
            "model with a map"
        )
    if not phased:
        raise UsageError(
            f"ensemble={MAP!r}: the map must come before the rest, which takes files of both "
            f"phases beside {model.artefact.name}; `allfocus export --model {name} --phase all` "
            "makes all three"
        )


class Turned(Flow):
    """The mean of what `flow`, which there is for each size, makes of a picture laid in each way.

    As the flow cuts tiles for the size, a graph for one size does turned pictures in tiles.
    """

    def __init__(self, ways: Sequence[Turn], flow: Callable[[Size], Flow], form: Form) -> None:
        self._ways = ways
        self._flow = flow
        self._form = form

    def frames(self, size: Size) -> list[tuple[Stage, Size]]:
        """See Flow."""
        sizes = dict.fromkeys(way.of_size(size) for way in self._ways)
        return [frame for each in sizes for frame in self._flow(each).frames(each)]

    def draw(self, image: Array, clock: Clock, defocus: Array | None = None) -> Drawn:
        """See Flow."""
        sums: dict[str, Array] = {}
        first, skipped = None, 0.0
        for way in self._ways:
            given = self._form.turned(image, way)
            plane = None if defocus is None else COLOUR.turned(defocus, way)
            drawn = self._flow(self._form.size(given)).draw(given, clock, plane)
            first = drawn.sharp if first is None else first
            skipped += drawn.skipped
            for name, array in self._laid_back(drawn, way.inverse).items():
                if name in sums:  # one after the other: eight of a large picture are too many
                    sums[name] += array
                else:
                    sums[name] = array.astype(np.float32)
            clock.lap("post")
        means = {name: total / np.float32(len(self._ways)) for name, total in sums.items()}
        assert first is not None
        means["sharp"] = _near(first, means["sharp"], self._form.step)
        return Drawn(**means, skipped=skipped / len(self._ways))

    def _laid_back(self, drawn: Drawn, back: Turn) -> dict[str, Array]:
        """The picture, and the planes that there are, by name."""
        found = {"sharp": self._form.turned(drawn.sharp, back)}
        for name, plane in (("defocus", drawn.defocus), ("focus", drawn.focus)):
            if plane is not None:
                found[name] = COLOUR.turned(np.asarray(plane, np.float32), back)
        return found


def _near(picture: Array, mean: Array, step: int) -> Array:
    """The mean in the type of `picture`, as it lies; whole numbers are whole `step`s from its."""
    if picture.dtype == np.float32:
        return mean
    return np.asarray(picture + step * np.rint((mean - picture) / step), picture.dtype)
