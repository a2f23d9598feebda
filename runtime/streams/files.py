"""Image files as a stream, one after the other, and results as files of a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import AllfocusError, InputError, UsageError
from allfocus.runtime.jobs import pictures_in
from allfocus.runtime.pictures.image import MAX_PIXELS, Picture, read_image, write_image
from allfocus.runtime.pictures.metadata import Metadata
from allfocus.runtime.streams.frames import Damaged, Sink, Source, StreamFrame, check_bgr

Paths = str | os.PathLike[str]

_NUMBERED = re.compile(r"\d{6,}\.png")


@dataclass(frozen=True)
class PictureFile:
    """Where a frame's picture stands, and all that belongs to it."""

    path: Path
    picture: Picture


class PictureFiles(Source):
    """The pictures of files, in order. One that cannot be read is a damaged frame.

    `paths` is one or several; a folder stands for the pictures in it, by their names, sorted.
    Raises InputError for a folder without any.
    """

    def __init__(self, paths: Paths | Iterable[Paths], *, max_pixels: int = MAX_PIXELS) -> None:
        given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        self._paths = [path for each in given for path in _expanded(Path(each))]
        self._max_pixels = max_pixels
        self._closed = False

    @property
    def total(self) -> int:
        """See Source."""
        return len(self._paths)

    def check(self, deblurrer: Deblurrer) -> None:
        """See Source."""
        check_bgr(deblurrer, "picture files")

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

    Frames that come from no file are numbered, 000000.png, and are grey or BGR. Raises UsageError
    for two pictures of one name, and for a file that is there already, such as an input or a frame
    of an earlier stream, which only `overwrite` allows to write over.
    """

    def __init__(self, folder: Paths, *, overwrite: bool = False) -> None:
        self.folder = Path(folder)
        self._overwrite = overwrite
        self._sources: dict[str, Path] = {}  # of what was written; numbered frames have none
        self._numbered = False

    def check(self, deblurrer: Deblurrer) -> None:
        """See Sink."""
        check_bgr(deblurrer, self.folder)

    def write(self, frame: StreamFrame, result: Result) -> None:
        """See Sink."""
        if isinstance(frame.origin, PictureFile):
            source = frame.origin.path
            target = self.folder / source.name
            self._refuse_clash(source, target)
            picture = frame.origin.picture.with_frame(result.image)
        else:
            target = self.folder / f"{frame.index:06}.png"
            self._refuse_earlier()
            picture = _plain(frame.index, result.image)
            source = None
        if not self._overwrite and target.exists():
            own = source is not None and source.exists() and target.samefile(source)
            raise _there(target, "an input" if own else "there already")
        write_image(target, picture)

    def close(self) -> None:
        """Nothing is held."""

    def _refuse_clash(self, source: Path, target: Path) -> None:
        """Of two pictures of one name."""
        name = os.path.normcase(target.name)
        if name in self._sources:
            raise UsageError(
                f"{self._sources[name]} and {source} would both be written to {target}: put them "
                "into different folders"
            )
        self._sources[name] = source

    def _refuse_earlier(self) -> None:
        """Numbers begin anew: before the first one there may be none, or streams would mix."""
        if self._numbered or self._overwrite:
            return
        self._numbered = True
        there = self.folder.iterdir() if self.folder.is_dir() else ()
        earlier = min((path for path in there if _NUMBERED.fullmatch(path.name)), default=None)
        if earlier is not None:
            raise _there(earlier, "there already, from another stream")


def _expanded(path: Path) -> list[Path]:
    return pictures_in(path) if path.is_dir() else [path]


def _there(path: Path, what: str) -> UsageError:
    return UsageError(f"{path} is {what}: choose another folder, or allow it with overwrite=True")


def _plain(index: int, image: object) -> Picture:
    """A result of no file, as a picture."""
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(
            f"frame {index}: expected a result of uint8 or uint16 in host memory, as PNG holds it, "
            f"got {kind}: give frames of such a type"
        )
    return Picture(pixels=image, metadata=Metadata(), format="PNG", lossless=True)
