"""Ways through a model: all at once or in tiles, in one graph or in two, everywhere or where it is
blurred. What comes out is the same, but beside what is padded: two graphs pad each for itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.clock import Clock
from allfocus.runtime.form import COLOUR
from allfocus.runtime.regions import fading, windows
from allfocus.runtime.skip import REACH, Skip
from allfocus.runtime.spec import Size
from allfocus.runtime.stage import Arrays, Stage
from allfocus.runtime.tiling import Tile, Window
from allfocus.runtime.turn import Turn

_PLANES = ("defocus", "focus")


@dataclass(frozen=True)
class Drawn:
    """What a flow makes of a picture: another, and planes [H, W] as the graph gives them."""

    sharp: Array
    defocus: Array | None = None
    focus: Array | None = None
    skipped: float = 0.0  # share of the pixels that were passed through


class Flow(ABC):
    """One way through a model."""

    @abstractmethod
    def frames(self, size: Size) -> list[tuple[Stage, Size]]:
        """The graphs that a picture of `size` passes, each with the size that it is grown to."""

    @abstractmethod
    def draw(self, image: Array, clock: Clock, defocus: Array | None = None) -> Drawn:
        """Deblur a picture, which lies in its array as the graph's `Form` says.

        `defocus`: a map [H, W] from outside, 1 at the model's largest radius and maybe beyond it,
        where the flow is for that; the model estimates none then.
        """


class Direct(Flow):
    """The whole model in one graph."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def fits(self, size: Size) -> bool:
        """Whether a frame of `size` passes without being cut."""
        return self._stage.fits(self._stage.grown(size))

    def mirrors(self, size: Size) -> bool:
        """Whether it must pad a frame of `size`."""
        return self._stage.grown(size) != size

    @property
    def maps(self) -> bool:
        """Whether a plane comes out, which a second graph can be given."""
        return any(name in _PLANES for name in self._stage.backend.graph.signature.outputs)

    def frames(self, size: Size) -> list[tuple[Stage, Size]]:
        """See Flow."""
        return [(self._stage, self._stage.grown(size))]

    def draw(self, image: Array, clock: Clock, defocus: Array | None = None) -> Drawn:
        """See Flow."""
        assert defocus is None, "a map from outside enters the phase `restore` alone"
        found = everywhere(self._stage, {"image": image}, clock)
        return Drawn(found["sharp"], found.get("defocus"), found.get("focus"))


class Guided(Flow):
    """The second graph alone, under a map from outside, where it is wanted."""

    def __init__(self, restore: Stage, skip: Skip | None) -> None:
        self._restore = restore
        self._skip = skip

    def frames(self, size: Size) -> list[tuple[Stage, Size]]:
        """See Flow."""
        return [(self._restore, self._restore.grown(size))]

    def draw(self, image: Array, clock: Clock, defocus: Array | None = None) -> Drawn:
        """See Flow."""
        assert defocus is not None
        within = np.clip(defocus, 0, 1)  # beyond the largest radius that it knows it ruins pictures
        seen = {"defocus": np.asarray(within, np.float32)}
        return self._restored(image, seen, clock)

    def _restored(self, image: Array, seen: Arrays, clock: Clock) -> Drawn:
        """What becomes of a picture, and of planes of its size and vectors that go with it.

        All are grown to what this graph takes, which is often less than the first one does: what is
        mirrored costs time, and makes the nets err beside it.
        """
        form = self._restore.form
        real = Window.whole(form.size(image))
        frame = self._restore.grown(form.size(image))
        planes = {name: seen[name] for name in _PLANES if name in seen}
        grown = {name: COLOUR.grown(plane, frame) for name, plane in planes.items()}
        given = {**seen, **grown, "image": form.grown(image, frame)}
        plane = next(iter(grown.values()), None)
        if self._skip is None or plane is None:
            tiles = self._restore.tiles(Window.whole(frame), frame)
            whole = _computed(self._restore, tiles, given, frame, clock)["sharp"]
            skipped = 0.0
        else:
            whole, skipped = self._where_blurred(given, plane, self._skip, real, clock)
        maps = {name: np.maximum(plane, 0) for name, plane in planes.items()}
        sharp = np.ascontiguousarray(form.cut(whole, real))
        return Drawn(sharp, maps.get("defocus"), maps.get("focus"), skipped)

    def _where_blurred(
        self, given: Arrays, plane: Array, skip: Skip, real: Window, clock: Clock
    ) -> tuple[Array, float]:
        """The sharp picture as it was grown, and the share of the frame that is its own."""
        grown, form = given["image"], self._restore.form
        frame = form.size(grown)
        active = skip.active(plane)
        active[real.bottom :] = active[:, real.right :] = False  # nobody sees what was mirrored
        weights = fading(active, skip.fade)
        grain = self._restore.grain.within(REACH)
        parts = windows(weights > 0, grain)
        tiles = [tile for part in parts for tile in self._restore.tiles(part, frame, grain)]
        out = grown.copy()
        clock.lap("pre")
        with self._restore.room(tiles):
            for tile in tiles:
                result = self._restore.run(tile.seen, given, clock)["sharp"]
                if skip.fade:
                    under = form.cut(grown, tile.seen)
                    result = form.blended(result, under, tile.seen.of(weights))
                form.put(tile, result, out)
        clock.lap("post")
        kept = sum(_area_in(tile.kept, real) for tile in tiles)
        return out, 1 - kept / real.area


class Phased(Guided):
    """The map, or what is pooled over the picture, first; then the rest, where it is wanted.

    The first is the mean of what is seen of the picture laid in each of `looks`.
    """

    def __init__(
        self,
        estimate: Stage,
        restore: Stage,
        skip: Skip | None,
        *,
        looks: Sequence[Turn] = (Turn(),),
        coarse_map: bool = False,
    ) -> None:
        super().__init__(restore, skip)
        self._estimate = estimate
        self._looks = looks
        self._coarse_map = coarse_map

    def frames(self, size: Size) -> list[tuple[Stage, Size]]:
        """See Flow."""
        laid = dict.fromkeys(way.of_size(size) for way in self._looks)
        looked_at = [self._estimate.grown(each) for each in laid]
        if self._coarse_map:
            looked_at = [self._estimate.grown(self._half(each)) for each in looked_at]
        seen = [(self._estimate, each) for each in looked_at]
        return [*seen, (self._restore, self._restore.grown(size))]

    def draw(self, image: Array, clock: Clock, defocus: Array | None = None) -> Drawn:
        """See Flow: the map is its own."""
        assert defocus is None
        sums: Arrays = {}
        for way in self._looks:
            for name, array in self._seen(image, way, clock).items():
                sums[name] = sums[name] + array if name in sums else array
        count = np.float32(len(self._looks))
        means = sums if count == 1 else {name: total / count for name, total in sums.items()}
        return self._restored(image, means, clock)

    def _seen(self, image: Array, way: Turn, clock: Clock) -> Arrays:
        """What the first graph sees of a picture laid in a way: planes as it lies, and vectors."""
        form = self._estimate.form
        laid = form.turned(image, way)
        grown = form.grown(laid, self._estimate.grown(form.size(laid)))
        seen = self._look_coarsely(grown, clock) if self._coarse_map else self._look(grown, clock)
        real = Window.whole(form.size(laid))
        for name in _PLANES:
            if name in seen:
                plane = COLOUR.turned(real.of(seen[name]), way.inverse)
                seen[name] = np.ascontiguousarray(plane)
        return seen

    def _look(self, grown: Array, clock: Clock) -> Arrays:
        """What the first graph gives for a grown frame: planes [H, W], vectors [1, K, 1, 1]."""
        frame = self._estimate.form.size(grown)
        tiles = self._estimate.tiles(Window.whole(frame), frame)
        return _computed(self._estimate, tiles, {"image": grown}, frame, clock)

    def _look_coarsely(self, grown: Array, clock: Clock) -> Arrays:
        """The same from the frame at half its size, where blur has half its radius.

        What is pooled over the picture is taken as it comes: that of the smaller one.
        """
        form = self._estimate.form
        frame = form.size(grown)
        half = self._half(frame)
        small = form.grown(form.resized(grown, half), self._estimate.grown(half))
        seen = self._look(small, clock)
        for name in _PLANES:
            if name in seen:
                cut = Window.whole(half).of(seen[name])
                plane = cv2.resize(cut, (frame.width, frame.height))
                # 1 is the largest radius that the other graph knows; beyond it ruins pictures.
                seen[name] = np.minimum(2 * plane, 1) if name == "defocus" else np.asarray(plane)
        return seen

    def _half(self, frame: Size) -> Size:
        """What the map is estimated on where it is coarse, before it is grown."""
        return self._estimate.form.reduced(frame, 2)


def check_room(frames: list[tuple[Stage, Size]]) -> None:
    """Raise LimitError, before anything has run, where a graph cannot do its frame.

    That of the graph that needs the most comes first: with what it tells, all of them can.
    """
    for stage, frame in sorted(frames, key=lambda each: -each[0].least_bytes(each[1])):
        stage.tiles(Window.whole(frame), frame)


def everywhere(stage: Stage, pictures: Arrays, clock: Clock) -> Arrays:
    """What a graph gives for all of some pictures of one size: that size too.

    Raises LimitError where its tiles would be too small.
    """
    size = stage.form.size(next(iter(pictures.values())))
    frame, real = stage.grown(size), Window.whole(size)
    grown = {name: stage.form.grown(picture, frame) for name, picture in pictures.items()}
    tiles = stage.tiles(Window.whole(frame), frame)
    found = _computed(stage, tiles, grown, frame, clock)
    cut = {name: stage.form_of(name).cut(array, real) for name, array in found.items()}
    return {name: np.ascontiguousarray(array) for name, array in cut.items()}


def _computed(stage: Stage, tiles: list[Tile], given: Arrays, frame: Size, clock: Clock) -> Arrays:
    """The results of all tiles, which cover the frame, put together."""
    with stage.room(tiles):
        if len(tiles) == 1 and tiles[0].kept == Window.whole(frame):
            return stage.run(tiles[0].seen, given, clock)
        whole: Arrays = {}
        for tile in tiles:
            for name, part in stage.run(tile.seen, given, clock).items():
                form = stage.form_of(name)
                if name not in whole:
                    whole[name] = form.empty(frame, part)
                form.put(tile, part, whole[name])
            clock.lap("post")
        return whole


def _area_in(window: Window, real: Window) -> int:
    width = min(window.right, real.right) - window.left
    height = min(window.bottom, real.bottom) - window.top
    return max(0, width) * max(0, height)
