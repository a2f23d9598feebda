"""Pictures in GPU memory as planes of pixels: their layout, and padding and cropping by copies.

A uint8 frame is one plane of 3-byte pixels; a float image is three planes of 4-byte pixels, a map
is one. Everything here queues copies on a stream; no kernel is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from allfocus.runtime.cudart import Stream
from allfocus.runtime.device_array import DeviceView
from allfocus.runtime.errors import InputError
from allfocus.runtime.layout import layout
from allfocus.runtime.spec import Io, Size

_FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A matrix of pixels: `pitch` bytes from row to row, `pixel` bytes from column to column."""

    pointer: int
    pitch: int
    pixel: int
    size: Size

    def part(self, x: int, y: int, size: Size) -> Plane:
        """The part of `size` pixels whose first pixel is at column `x` and row `y`."""
        pointer = self.pointer + y * self.pitch + x * self.pixel
        return replace(self, pointer=pointer, size=size)


def image_planes(io: Io, pointer: int, size: Size) -> list[Plane]:
    """The planes of a contiguous image at `pointer`."""
    if io == "frame":
        return [Plane(pointer=pointer, pitch=3 * size.width, pixel=3, size=size)]
    first = map_plane(pointer, size)
    step = first.pitch * size.height
    return [replace(first, pointer=pointer + channel * step) for channel in range(3)]


def map_plane(pointer: int, size: Size) -> Plane:
    """The plane of a contiguous map at `pointer`."""
    return Plane(pointer=pointer, pitch=_FLOAT_BYTES * size.width, pixel=_FLOAT_BYTES, size=size)


def frame_planes(io: Io, given: DeviceView) -> list[Plane]:
    """The planes of a frame that came from outside; its rows may be further apart than their bytes.

    Takes [H, W, 3] uint8 or [3, H, W] float32, also with a leading 1; raises InputError for others.
    """
    expected = "uint8 [H, W, 3]" if io == "frame" else "float32 [3, H, W]"
    wrong = f"frame on a GPU: this engine takes {expected}, got {given}"
    shape, steps = given.shape, given.strides
    if len(shape) == 4 and shape[0] == 1:
        shape, steps = shape[1:], steps[1:]
    channels = 2 if io == "frame" else 0
    if (
        len(shape) != 3
        or shape[channels] != 3
        or 0 in shape
        or given.dtype != layout("image", io).dtype
    ):
        raise InputError(f"{wrong}; convert it on the GPU, or export with the other `--io`")
    rows, columns = (0, 1) if io == "frame" else (1, 2)
    size = Size(shape[columns], shape[rows])
    pixel = image_planes(io, 0, size)[0].pixel
    # An axis of one element may have any stride: it is never stepped along.
    pitch = steps[rows] if size.height > 1 else pixel * size.width
    inner = (steps[columns] == pixel or size.width == 1) and (io == "float" or steps[2] == 1)
    if not inner or pitch < pixel * size.width:
        raise InputError(f"{wrong}: the bytes of a row must follow each other; make a copy of it")
    first = Plane(pointer=given.pointer, pitch=pitch, pixel=pixel, size=size)
    if io == "frame":
        return [first]
    return [replace(first, pointer=given.pointer + channel * steps[0]) for channel in range(3)]


def copy(stream: Stream, target: Plane, source: Plane) -> None:
    """Queue a copy of `source` into the first rows and columns of `target`."""
    width, rows = source.pixel * source.size.width, source.size.height
    stream.copy_rows(target.pointer, target.pitch, source.pointer, source.pitch, width, rows)


def reflect(stream: Stream, plane: Plane, filled: Size) -> None:
    """Queue the mirroring of the first `filled` pixels of `plane` into the rest of it.

    One copy for each column and row, of which a model's `multiple` leaves few. The edge line itself
    is not repeated, as on the host (`face.pad`).
    """
    column = Size(1, filled.height)
    for x, source in _mirrored(filled.width, plane.size.width):
        copy(stream, plane.part(x, 0, column), plane.part(source, 0, column))
    row = Size(plane.size.width, 1)
    for y, source in _mirrored(filled.height, plane.size.height):
        copy(stream, plane.part(0, y, row), plane.part(0, source, row))


def _mirrored(length: int, padded: int) -> Iterator[tuple[int, int]]:
    """Positions from `length` up to `padded`, each with the position below `length` it mirrors.

    Where more is missing than there is, the mirror image is mirrored again.
    """
    period = 2 * (length - 1)
    for position in range(length, padded):
        turn = position % period if period else 0
        yield position, min(turn, period - turn)
