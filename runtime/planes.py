"""Pictures in GPU memory as planes of pixels: their layout, and padding and cropping by copies.

A uint8 frame is one plane of 3-byte pixels, one of uint16 has 6; a float image is three planes of
4-byte pixels, a map is one. Luma is a plane of single samples, and chroma below it one of pairs, at
half its size. Everything here queues copies on a stream; no kernel is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from allfocus.runtime.cudart import Stream
from allfocus.runtime.device_array import DeviceView
from allfocus.runtime.errors import InputError
from allfocus.runtime.layout import frame_layout
from allfocus.runtime.spec import YUV, Io, Size
from allfocus.runtime.yuv_frame import check_yuv

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
    pitch = _pixel(io) * size.width
    return _placed(io, pointer, size, pitch, pitch * size.height)


def map_plane(pointer: int, size: Size) -> Plane:
    """The plane of a contiguous map at `pointer`."""
    return Plane(pointer=pointer, pitch=_FLOAT_BYTES * size.width, pixel=_FLOAT_BYTES, size=size)


def frame_planes(io: Io, given: DeviceView) -> list[Plane]:
    """The planes of a frame that came from outside; its rows may be further apart than their bytes.

    Takes what `frame_layout` says, also without the leading 1; raises InputError for others.
    """
    wanted = frame_layout("image", io)
    expected = f"{wanted.dtype} [{', '.join(map(str, wanted.axes[1:]))}]"
    wrong = f"frame on a GPU: this engine takes {expected}, got {given}"
    shape, steps = given.shape, given.strides
    if len(shape) == len(wanted.axes) and shape[0] == 1:
        shape, steps = shape[1:], steps[1:]
    if io in YUV:
        check_yuv(shape, given.dtype, io)
    if not wanted.fits((1, *shape)) or 0 in shape or given.dtype != wanted.dtype:
        raise InputError(f"{wrong}; convert it on the GPU, or export with another `--io`")
    size = wanted.size((1, *shape))
    assert size is not None
    columns = wanted.axes.index("W") - 1
    pixel = _pixel(io)
    # An axis of one element may have any stride: it is never stepped along.
    pitch = steps[columns - 1] if shape[columns - 1] > 1 else pixel * size.width
    inner = all(step == given.dtype.itemsize for step in steps[columns + 1 :])
    inner = inner and (steps[columns] == pixel or size.width == 1)
    if not inner or pitch < pixel * size.width:
        raise InputError(f"{wrong}: the bytes of a row must follow each other; make a copy of it")
    return _placed(io, given.pointer, size, pitch, steps[0])


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


def _pixel(io: Io) -> int:
    """Bytes from column to column of the first plane."""
    wanted = frame_layout("image", io)
    return wanted.dtype.itemsize * (3 if wanted.axes[-1] == 3 else 1)


def _placed(io: Io, pointer: int, size: Size, pitch: int, channel: int) -> list[Plane]:
    """The planes of an image whose rows are `pitch` bytes apart, and channels, if it has such,
    `channel`."""
    first = Plane(pointer=pointer, pitch=pitch, pixel=_pixel(io), size=size)
    if io == "float":
        return [replace(first, pointer=pointer + index * channel) for index in range(3)]
    if io not in YUV:
        return [first]
    chroma = first.part(0, size.height, Size(size.width // 2, size.height // 2))
    return [first, replace(chroma, pixel=2 * first.pixel)]
