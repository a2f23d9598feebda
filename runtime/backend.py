"""What an inference engine must offer. Public methods check and count; `_hooks` do the work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import ArtefactError, InputError
from allfocus.runtime.spec import Graph, Size, Spec

Array = NDArray[Any]


@dataclass(frozen=True)
class Options:
    """Where and how to run. `threads` 0 lets the engine choose; only CPU engines use it."""

    device: int = 0
    threads: int = 0
    cuda_graph: bool = True


@dataclass(frozen=True)
class Outputs:
    """A graph's outputs, in its own layout; `defocus` is None where a model gives no map."""

    sharp: Any
    defocus: Any | None


class Backend(ABC):
    """One artefact loaded into one engine.

    Subclasses set `name`, and override `_load`, `_infer` and `_close`.
    """

    name: str

    def __init__(self, artefact: Path, options: Options) -> None:
        self.artefact = artefact
        self.options = options
        self.calls = 0
        self._open = False
        self.spec, self.graph = self._load()
        self._open = True

    @abstractmethod
    def _load(self) -> tuple[Spec, Graph]:
        """Load `self.artefact`; raise ArtefactError or BackendError."""

    @abstractmethod
    def _infer(self, image: Any) -> Outputs:
        """Run the graph once; `image` has been checked."""

    @abstractmethod
    def _close(self) -> None:
        """Release everything; called once."""

    def infer(self, image: Array) -> Outputs:
        """Run the graph on a host array in the graph's own layout (see `Graph`).

        Raises InputError where dtype, layout or size are not what the graph takes.
        """
        self.check_open()
        self._check(image.shape, image.dtype)
        self.calls += 1
        return self._infer(np.ascontiguousarray(image))

    def infer_device(self, frame: Any) -> Outputs:
        """Run the graph on a frame that lies in GPU memory; the outputs lie there too.

        `frame` offers `__cuda_array_interface__` or a CUDA `__dlpack__`. Only TensorRT engines take
        such frames; the others raise InputError.
        """
        raise InputError(
            f"frame on a GPU ({type(frame).__name__}): the backend {self.name!r} takes frames in "
            "host memory; copy it there, or load a TensorRT engine (`allfocus export` makes one)"
        )

    def size_for(self, size: Size) -> Size:
        """The size a frame of `size` must be padded to; raises InputError where none fits."""
        padded = size.padded(self.spec.multiple)
        shapes = self.graph.shapes
        if shapes is None:
            return padded
        wanted = Size(max(padded.width, shapes.min.width), max(padded.height, shapes.min.height))
        if wanted.width > shapes.max.width or wanted.height > shapes.max.height:
            raise InputError(
                f"frame of {size}: {self.artefact.name} takes at most {shapes.max}; export one for "
                f"larger frames: `allfocus export --model {self.spec.name} --size {padded}`"
            )
        return wanted

    def check_open(self) -> None:
        """Raise ArtefactError after `close`."""
        if not self._open:
            raise ArtefactError(f"{self.artefact}: closed; load it again")

    def close(self) -> None:
        """Release the engine; a second call does nothing."""
        if self._open:
            self._open = False
            self._close()

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, shape: tuple[int, ...], dtype: Any) -> None:
        frame = self.graph.io == "frame"
        expected = "uint8 [1, H, W, 3]" if frame else "float32 [1, 3, H, W]"
        channels = shape[-1] if frame else (shape[1] if len(shape) == 4 else 0)
        if len(shape) != 4 or shape[0] != 1 or channels != 3:
            raise InputError(f"{self.artefact.name} takes {expected}, got shape {list(shape)}")
        if np.dtype(dtype) != (np.uint8 if frame else np.float32):
            raise InputError(f"{self.artefact.name} takes {expected}, got {dtype}")
        height, width = shape[1:3] if frame else shape[2:4]
        if self.size_for(Size(width, height)) != Size(width, height):
            raise InputError(
                f"{self.artefact.name}: size {width}x{height} does not fit; it takes "
                f"{self.graph.shapes or f'multiples of {self.spec.multiple}'}"
            )
