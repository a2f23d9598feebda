"""One graph at work on frames that may be larger than what it takes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array, Backend
from allfocus.runtime.clock import Clock
from allfocus.runtime.errors import LimitError
from allfocus.runtime.face import face
from allfocus.runtime.form import COLOUR, Form
from allfocus.runtime.layout import layout
from allfocus.runtime.memory import format_bytes, sufficient_bytes
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Color, Size
from allfocus.runtime.tiling import Grain, Tile, Window, best_tile, cover, least_pixels, work

_FACE_BYTES = 40  # a pixel's inputs and outputs in the graph's layout, and the frames cut for them

_ANEW = 1.4  # memory that is taken anew for each frame costs as much as so many times the work

Arrays = dict[str, Array]


class Stage:
    """A loaded graph, run on windows of frames in at most `memory` bytes, as far as it is known.

    It is one of `graphs` that share them, in each of `streams`. What fits into an even share is run
    there, and each graph keeps what it has taken, which is quicker. What is larger may take all:
    the graphs that are `loaded` give back theirs before, and this one its own afterwards.

    Pictures lie as `form` says, as colour frames [H, W, 3] or as [3H/2, W]; planes [H, W] and
    vectors [1, K, 1, 1] are the graph's.
    """

    def __init__(
        self,
        backend: Backend,
        color: Color,
        memory: int,
        *,
        graphs: int = 1,
        streams: int = 1,
        loaded: Callable[[], Sequence[Backend]] = tuple,
    ) -> None:
        self.backend = backend
        self.memory = memory
        self._graphs = graphs
        self._streams = streams
        self._loaded = loaded
        self._face = face(backend.graph, color)

    @property
    def form(self) -> Form:
        """How its pictures lie in arrays."""
        return self._face.form

    def form_of(self, name: str) -> Form:
        """The same of any of its pictures and planes."""
        return self.form if KINDS[name] == "picture" else COLOUR

    @property
    def grain(self) -> Grain:
        """What its tiles must see."""
        return Grain(self.backend.spec.halo, self.backend.spec.multiple)

    @property
    def pixels(self) -> int | None:
        """How many a run may have at most; None where nothing limits it."""
        shapes, most = self.backend.graph.shapes, self._affordable
        if shapes is None:
            return most
        return shapes.max.area if most is None else min(most, shapes.max.area)

    @property
    def _affordable(self) -> int | None:
        """How many pixels the memory suffices for in each stream; None where that is not known, or
        where a graph takes one size only: then that is what it takes."""
        shapes = self.backend.graph.shapes
        if self._each is None or (shapes is not None and shapes.is_static):
            return None
        return int(self.memory / self._streams / self._each)

    @property
    def _each(self) -> float | None:
        """Bytes that a pixel takes; None where they are not known."""
        each = self.backend.bytes_per_pixel
        return None if each is None else each + _FACE_BYTES

    def least_bytes(self, frame: Size) -> float:
        """What the smallest tiles of a grown frame take, in all streams; 0 where nothing is known.

        Of a net that pools over the picture: what all of the frame takes.
        """
        pixels = (
            frame.area
            if self._pools
            else least_pixels(frame, self.grain, self.backend.graph.shapes)
        )
        return pixels * (self._each or 0.0) * self._streams

    @property
    def _pools(self) -> bool:
        """Whether it must see a frame at once, since it averages over it."""
        signature = self.backend.graph.signature
        given = "context" in signature.inputs
        return "context" in signature.outputs or (self.backend.spec.global_context and not given)

    def grown(self, size: Size) -> Size:
        """What a frame of `size` must be padded to."""
        shapes = self.backend.graph.shapes
        padded = size.padded(self.backend.spec.multiple)
        return padded if shapes is None else padded.at_least(shapes.min)

    def fits(self, size: Size) -> bool:
        """Whether a frame that was grown to `size` can go in at once."""
        return not self._beyond(size) and (self.pixels is None or size.area <= self.pixels)

    def _beyond(self, size: Size) -> bool:
        """Whether the graph takes nothing so wide or so high."""
        shapes = self.backend.graph.shapes
        return shapes is not None and not size.within(shapes.max)

    def tiles(self, region: Window, frame: Size, grain: Grain | None = None) -> list[Tile]:
        """What must be run for `region` of a grown frame.

        `grain`: how much is looked at around `region`, where that is less than all that has a
        part in it; what is computed then is cut into tiles without a further change.
        Raises LimitError where no tile that is small enough computes anything, and where a net
        that pools over the picture would be cut.
        """
        seen = (grain or self.grain).around(region, frame)
        shapes = self.backend.graph.shapes
        if shapes is not None:  # at least the smallest that it takes, which the frame is grown to
            seen = seen.at_least(shapes.min, frame)
        if self._pools and not self.fits(seen.size):
            raise LimitError(self._whole_needed(frame))
        tile = seen.size if self._pools else self._tile(seen.size)
        if tile is None:
            raise LimitError(self._too_little(seen.size))
        parts = cover(region.seen_from(seen), seen.size, tile, self.grain)
        return [part.moved(seen.left, seen.top) for part in parts]

    @contextmanager
    def room(self, tiles: Sequence[Tile]) -> Iterator[None]:
        """While `tiles` are run: the memory that they need, if need be that of the other graphs."""
        pixels = self._affordable
        largest = max((tile.seen.area for tile in tiles), default=0)
        alone = pixels is not None and largest > pixels // self._graphs
        if alone:
            for other in self._loaded():
                other.release()
        try:
            yield
        finally:
            if alone:
                self.backend.release()

    def run(self, window: Window, frames: Mapping[str, Array], clock: Clock) -> Arrays:
        """Run on one window of grown frames and planes; vectors go in as they are.

        What comes out is of the window's size; pictures have the type of those that went in.
        """
        inputs = {name: self._enter(name, array, window) for name, array in frames.items()}
        clock.lap("pre")
        outputs = self.backend.run(inputs)
        clock.copies += self.backend.copies
        clock.lap("infer")
        dtype = next(a.dtype for n, a in frames.items() if KINDS[n] == "picture")
        found = {name: self._leave(name, a, window.size, dtype) for name, a in outputs.items()}
        clock.lap("post")
        return found

    def _enter(self, name: str, array: Array, window: Window) -> Array:
        if KINDS[name] == "picture":
            return self._face.pack(self.form.cut(array, window), window.size, name)
        if KINDS[name] == "plane":
            shape = layout(name, self.backend.graph.io).shape(window.size)
            return np.ascontiguousarray(window.of(array)).reshape(shape)
        return array

    def _leave(self, name: str, array: Array, size: Size, dtype: np.dtype[Any]) -> Array:
        if KINDS[name] == "picture":
            return self._face.unpack(array, size, dtype)
        return array.reshape(array.shape[-2:]) if KINDS[name] == "plane" else array

    def _tile(self, need: Size) -> Size | None:
        """The size of the tiles that cover `need`; None where none does."""
        shapes, pixels = self.backend.graph.shapes, self.pixels
        if pixels is None:
            return need
        if shapes is None:
            return self._tile_within(need, pixels)
        largest = Size(min(need.width, shapes.max.width), min(need.height, shapes.max.height))
        if self._keeps_nothing(need, largest):
            return None
        return largest if largest.area <= pixels else self._tile_within(need, pixels)

    def _keeps_nothing(self, need: Size, tile: Size) -> bool:
        """Whether tiles of a size are all margin along an axis on which `need` must be cut."""
        least = 2 * self.grain.margin
        return (tile.width < need.width and tile.width <= least) or (
            tile.height < need.height and tile.height <= least
        )

    def _tile_within(self, need: Size, pixels: int) -> Size | None:
        """The best tile within this graph's share; one that takes all memory where that pays."""
        shapes, shares = self.backend.graph.shapes, (pixels, pixels // self._graphs)
        most, own = (best_tile(need, self.grain, share, shapes) for share in shares)
        if own is None or most is None:
            return most
        pays = work(need, own, self.grain) > _ANEW * work(need, most, self.grain)
        return most if pays else own

    def _whole_needed(self, frame: Size) -> str:
        """What to say where it averages over the picture, and one of `frame` does not fit."""
        graph, spec, name = self.backend.graph, self.backend.spec, self.backend.artefact.name
        pools = f"{name} averages over the whole picture, and"
        if graph.shapes is not None and self._beyond(frame):
            return f"{pools} takes at most {graph.shapes.max}, got {frame}; {self._larger(frame)}"
        advice = "raise the memory budget, or take a smaller frame"
        if graph.phase == "whole":
            made = f"allfocus export --model {spec.name} --phase all"
            advice += f", or export its two phases beside it (`{made}`)"
        memory = format_bytes(self.memory)
        return f"{pools} one of {frame} does not fit into {memory} at once: {advice}"

    def _larger(self, need: Size) -> str:
        """How to come by a graph of a fixed size that takes frames of `need`."""
        return f"export it larger: `{self.backend.larger(need)}`"

    def _too_little(self, need: Size) -> str:
        spec, shapes, name = (
            self.backend.spec,
            self.backend.graph.shapes,
            self.backend.artefact.name,
        )
        if shapes is not None and self._keeps_nothing(need, shapes.max):
            return (
                f"{name} takes at most {shapes.max}, of which a margin of {self.grain.margin} "
                f"pixels on each side is lost: frames of {need} cannot be done in tiles of it; "
                f"{self._larger(need)}"
            )
        wanted = self.least_bytes(need)
        return (
            f"a memory budget of {format_bytes(self.memory)} is too small for one tile of "
            f"{name} (halo {spec.halo} pixels, {self._each or 0:.0f} bytes a pixel): at least "
            f"{sufficient_bytes(wanted)} are needed here"
        )
