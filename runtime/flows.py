"""Ways through a model: all at once or in tiles, in one graph or in two, everywhere or where it is
blurred. What comes out is the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.clock import Clock
from allfocus.runtime.errors import InputError
from allfocus.runtime.face import pad
from allfocus.runtime.frame import size_of
from allfocus.runtime.memory import format_bytes
from allfocus.runtime.regions import fading, windows
from allfocus.runtime.skip import Skip
from allfocus.runtime.spec import Size
from allfocus.runtime.stage import Arrays, Stage
from allfocus.runtime.tiling import Tile, Window, blended

_PLANES = ("defocus", "focus")


@dataclass(frozen=True)
class Drawn:
    """What a flow makes of a colour frame [H, W, 3]: planes are [H, W], as the graph gives them."""

    sharp: Array
    defocus: Array | None = None
    focus: Array | None = None
    skipped: float = 0.0  # share of the pixels that were passed through


class Flow(ABC):
    """One way through a model."""

    @abstractmethod
    def draw(self, image: Array, clock: Clock) -> Drawn:
        """Deblur a colour frame [H, W, 3]."""


class Direct(Flow):
    """The whole model in one graph."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def fits(self, size: Size) -> bool:
        """Whether a frame of `size` passes without being cut."""
        return self._stage.fits(self._stage.grown(size))

    def draw(self, image: Array, clock: Clock) -> Drawn:
        """See Flow. Raises InputError where a net that pools over the picture would be cut."""
        size = size_of(image)
        grown = _grown(image, self._stage.grown(size))
        frame = size_of(grown)
        spec = self._stage.backend.spec
        if spec.global_context and not self._stage.fits(frame):
            raise InputError(_whole_needed(self._stage, frame))
        tiles = self._stage.tiles(Window.whole(frame), frame)
        found = _computed(self._stage, tiles, {"image": grown}, frame, clock)
        cut = {name: np.ascontiguousarray(Window.whole(size).of(a)) for name, a in found.items()}
        return Drawn(cut["sharp"], cut.get("defocus"), cut.get("focus"))


class Phased(Flow):
    """The map, or what is pooled over the picture, first; then the rest, where it is wanted."""

    def __init__(
        self, estimate: Stage, restore: Stage, skip: Skip | None, *, coarse_map: bool = False
    ) -> None:
        self._estimate = estimate
        self._restore = restore
        self._skip = skip
        self._coarse_map = coarse_map

    def draw(self, image: Array, clock: Clock) -> Drawn:
        """See Flow. Raises InputError where what is pooled needs more memory than there may be."""
        size = size_of(image)
        grown = _grown(image, self._restore.grown(self._estimate.grown(size)))
        frame, real = size_of(grown), Window.whole(size)
        seen = self._look_coarsely(grown, clock) if self._coarse_map else self._look(grown, clock)
        given = {"image": grown, **seen}
        plane = next((seen[name] for name in _PLANES if name in seen), None)
        if self._skip is None or plane is None:
            tiles = self._restore.tiles(Window.whole(frame), frame)
            sharp = real.of(_computed(self._restore, tiles, given, frame, clock)["sharp"])
            skipped = 0.0
        else:
            sharp, skipped = self._where_blurred(given, plane, self._skip, real, clock)
        maps = {name: np.maximum(real.of(seen[name]), 0) for name in _PLANES if name in seen}
        image = np.ascontiguousarray(sharp)
        return Drawn(image, maps.get("defocus"), maps.get("focus"), skipped)

    def _look(self, grown: Array, clock: Clock) -> Arrays:
        """What the first graph gives for a grown frame: planes [H, W], vectors [1, K, 1, 1]."""
        frame = size_of(grown)
        if "context" in self._estimate.backend.graph.signature.outputs:
            if not self._estimate.fits(frame):
                raise InputError(_whole_needed(self._estimate, frame))
            return self._estimate.run(Window.whole(frame), {"image": grown}, clock)
        tiles = self._estimate.tiles(Window.whole(frame), frame)
        return _computed(self._estimate, tiles, {"image": grown}, frame, clock)

    def _look_coarsely(self, grown: Array, clock: Clock) -> Arrays:
        """The same from the frame at half its size, where blur has half its radius.

        What is pooled over the picture is taken as it comes: that of the smaller one.
        """
        frame = size_of(grown)
        half = Size(-(-frame.width // 2), -(-frame.height // 2))
        small = cv2.resize(grown, (half.width, half.height), interpolation=cv2.INTER_AREA)
        seen = self._look(_grown(np.asarray(small), self._estimate.grown(half)), clock)
        for name in _PLANES:
            if name in seen:
                cut = Window.whole(half).of(seen[name])
                plane = cv2.resize(cut, (frame.width, frame.height))
                seen[name] = np.asarray(2 * plane if name == "defocus" else plane)
        return seen

    def _where_blurred(
        self, given: Arrays, plane: Array, skip: Skip, real: Window, clock: Clock
    ) -> tuple[Array, float]:
        """The sharp picture, and the share of it that is the input's own."""
        grown = given["image"]
        frame = size_of(grown)
        active = skip.active(plane)
        active[real.bottom :] = active[:, real.right :] = False  # nobody sees what was mirrored
        weights = fading(active, skip.fade)
        parts = windows(weights > 0, self._restore.grain)
        tiles = [tile for part in parts for tile in self._restore.tiles(part, frame)]
        out = grown.copy()
        clock.lap("pre")
        for tile in tiles:
            result = self._restore.run(tile.seen, given, clock)["sharp"]
            if skip.fade:
                under = tile.seen.of(grown)
                result = blended(result, under, tile.seen.of(weights))
            tile.put(result, out)
        clock.lap("post")
        kept = sum(_area_in(tile.kept, real) for tile in tiles)
        return real.of(out), 1 - kept / real.area


def _grown(image: Array, size: Size) -> Array:
    return image if size_of(image) == size else pad(image, size)


def _computed(stage: Stage, tiles: list[Tile], given: Arrays, frame: Size, clock: Clock) -> Arrays:
    """The results of all tiles, which cover the frame, put together."""
    if len(tiles) == 1 and tiles[0].kept == Window.whole(frame):
        return stage.run(tiles[0].seen, given, clock)
    whole: Arrays = {}
    for tile in tiles:
        for name, part in stage.run(tile.seen, given, clock).items():
            if name not in whole:
                whole[name] = np.empty((frame.height, frame.width, *part.shape[2:]), part.dtype)
            tile.put(part, whole[name])
        clock.lap("post")
    return whole


def _area_in(window: Window, real: Window) -> int:
    width = min(window.right, real.right) - window.left
    height = min(window.bottom, real.bottom) - window.top
    return max(0, width) * max(0, height)


def _whole_needed(stage: Stage, frame: Size) -> str:
    spec = stage.backend.spec
    return (
        f"{stage.backend.artefact.name} averages over the whole picture, and one of {frame} does "
        f"not fit into {format_bytes(stage.memory)} at once: raise the memory budget, take a "
        f"smaller frame, or load {spec.name!r} by its name, so that its two phases can be used"
    )
