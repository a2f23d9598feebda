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
from allfocus.runtime.memory import format_bytes
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
        shapes, each = self.backend.graph.shapes, self.backend.bytes_per_pixel
        if shapes is not None:
            return shapes.max.width * shapes.max.height
        return None if each is None else int(self.memory / self._streams / (each + _FACE_BYTES))

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
        if shapes is None:
            return padded
        return Size(max(padded.width, shapes.min.width), max(padded.height, shapes.min.height))

    def fits(self, size: Size) -> bool:
        """Whether a frame that was grown to `size` can go in at once."""
        shapes, pixels = self.backend.graph.shapes, self.pixels
        if shapes is None:
            return pixels is None or size.width * size.height <= pixels
        return size.width <= shapes.max.width and size.height <= shapes.max.height

    def tiles(self, region: Window, frame: Size, grain: Grain | None = None) -> list[Tile]:
        """What must be run for `region` of a grown frame.

        `grain`: how much is looked at around `region`, where that is less than all that has a
        part in it; what is computed then is cut into tiles without a further change.
        Raises LimitError where no tile that is small enough computes anything.
        """
        seen = (grain or self.grain).around(region, frame)
        shapes = self.backend.graph.shapes
        if shapes is not None:  # at least the smallest that it takes, which the frame is grown to
            seen = seen.at_least(shapes.min, frame)
        tile = seen.size if self._pools and self.fits(seen.size) else self._tile(seen.size)
        if tile is None:
            raise LimitError(self._too_little(seen.size))
        parts = cover(region.seen_from(seen), seen.size, tile, self.grain)
        return [part.moved(seen.left, seen.top) for part in parts]

    @contextmanager
    def room(self, tiles: Sequence[Tile]) -> Iterator[None]:
        """While `tiles` are run: the memory that they need, if need be that of the other graphs."""
        pixels = self.pixels
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
        width, height = min(need.width, shapes.max.width), min(need.height, shapes.max.height)
        least = 2 * self.grain.margin
        too_small = (width < need.width and width <= least) or (
            height < need.height and height <= least
        )
        return None if too_small else Size(width, height)

    def _tile_within(self, need: Size, pixels: int) -> Size | None:
        """The best tile within this graph's share; one that takes all memory where that pays."""
        most, own = (best_tile(need, self.grain, n) for n in (pixels, pixels // self._graphs))
        if own is None or most is None:
            return most
        pays = work(need, own, self.grain) > _ANEW * work(need, most, self.grain)
        return most if pays else own

    def whole_needed(self, frame: Size) -> str:
        """What to say where it averages over the picture, and one of `frame` does not fit."""
        graph, spec, name = self.backend.graph, self.backend.spec, self.backend.artefact.name
        pools = f"{name} averages over the whole picture, and"
        if graph.shapes is not None:
            return f"{pools} takes at most {graph.shapes.max}, got {frame}; {self._advice(frame)}"
        advice = "raise the memory budget, or take a smaller frame"
        if graph.phase == "whole":
            advice += f", or load {spec.name!r} by its name, so that its two phases can be used"
        memory = format_bytes(self.memory)
        return f"{pools} one of {frame} does not fit into {memory} at once: {advice}"

    def _advice(self, need: Size) -> str:
        """How to come by a graph of a fixed size that takes frames of `need`."""
        graph = self.backend.graph
        phase = "" if graph.phase == "whole" else f" --phase {graph.phase}"
        command = f"allfocus export --model {self.backend.spec.name}{phase} --size {need}"
        return f"export it larger: `{command}`"

    def _too_little(self, need: Size) -> str:
        spec, shapes = self.backend.spec, self.backend.graph.shapes
        if shapes is not None:
            return (
                f"{self.backend.artefact.name} takes at most {shapes.max}, of which a margin of "
                f"{self.grain.margin} pixels on each side is lost: frames of {need} cannot be done "
                f"in tiles of it; {self._advice(need)}"
            )
        each = (self.backend.bytes_per_pixel or 0.0) + _FACE_BYTES
        wanted = least_pixels(need, self.grain) * each * self._streams
        return (
            f"a memory budget of {format_bytes(self.memory)} is too small for one tile of "
            f"{self.backend.artefact.name} (halo {spec.halo} pixels, {each:.0f} bytes a pixel): "
            f"at least {format_bytes(wanted)} are needed here"
        )
