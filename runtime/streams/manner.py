"""What a video that is written takes from where its frames come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from pathlib import Path
from typing import Any

from allfocus.runtime.backend import Array
from allfocus.runtime.spec import Size
from allfocus.runtime.streams.ffmpeg import Encoding
from allfocus.runtime.streams.frames import StreamFrame


class Manner(ABC):
    """How frames of one kind of source become a stream of pictures."""

    rate: Fraction  # frames a second, about
    base: Fraction  # of timestamps, in seconds, once there is a stream
    end: Fraction | None = None  # when the last picture ends, in seconds, where that is known
    sound: Path | None = None  # the file whose sound and subtitles go beside the pictures

    def __init__(self, encoding: Encoding, notes: list[str]) -> None:
        self._encoding, self._notes = encoding, notes

    @property
    def ended(self) -> int | None:
        """How many frames the source had, once its last one is read."""
        return None

    @abstractmethod
    def add_stream(self, container: Any) -> Any:
        """Add the stream to a container that is to be written; sets `base`."""

    def prepare(self, stream: Any, size: Size) -> None:  # noqa: B027 - where it is open, nothing
        """Open the encoder for frames of `size`, before the first one."""

    @abstractmethod
    def size(self, image: Array) -> Size:
        """Of the picture in a result."""

    @abstractmethod
    def picture(self, frame: StreamFrame, image: Array) -> Any:
        """A result as an `av.VideoFrame` that the encoder takes."""

    @abstractmethod
    def span(self, frame: StreamFrame) -> tuple[Fraction | None, Fraction | None]:
        """When a frame begins and how long it stays, in seconds; None where nobody knows."""
