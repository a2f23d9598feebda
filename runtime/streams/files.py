"""Image files as a stream: those of a list one after the other, results into a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.runtime.pictures.image import MAX_PIXELS, Picture, read_image, write_image
from allfocus.runtime.pictures.metadata import Metadata
from allfocus.runtime.streams.frames import Damaged, Sink, Source, StreamFrame


@dataclass(frozen=True)
class PictureFile:
    """Where a frame's picture stands, and all that belongs to it."""

    path: Path
    picture: Picture


class PictureFiles(Source):
    """The pictures of files, in order. One that cannot be read is a damaged frame."""

    def __init__(self, paths: Sequence[Path], *, max_pixels: int = MAX_PIXELS) -> None:
        self._paths = list(paths)
        self._max_pixels = max_pixels
        self._closed = False

    @property
    def total(self) -> int:
        """See Source."""
        return len(self._paths)

    def frames(self) -> Iterator[StreamFrame | Damaged]:
        """See Source; `origin` is a PictureFile."""
        for index, path in enumerate(self._paths):
            if self._closed:
                return
            try:
                picture = read_image(path, max_pixels=self._max_pixels)
            except AllfocusError as error:
                yield Damaged(index, error)
                continue
            origin = PictureFile(path, picture)
            yield StreamFrame(picture.frame(), index, perf_counter(), origin=origin)

    def close(self) -> None:
        """End before the next picture."""
        self._closed = True


class PictureFolder(Sink):
    """Writes each result into `folder`, under its picture's name, with its metadata.

    Frames that come from no file are numbered: 000000.png. Raises UsageError for two pictures of
    one name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, Path | None] = {}

    def write(self, frame: StreamFrame, result: Result) -> None:
        """See Sink."""
        origin = frame.origin
        known = isinstance(origin, PictureFile)
        name = origin.path.name if known else f"{frame.index:06}.png"
        source = origin.path if known else None
        if name in self._names:
            raise UsageError(
                f"{source or 'a frame'} and {self._names[name] or 'another'} would both be written "
                f"to {self.folder / name}: put them into different folders"
            )
        self._names[name] = source
        if known:
            picture = origin.picture.with_frame(result.image)
        else:
            image = result.image
            picture = Picture(pixels=image, metadata=Metadata(), format="PNG", lossless=True)
        write_image(self.folder / name, picture)

    def close(self) -> None:
        """Nothing is held."""
