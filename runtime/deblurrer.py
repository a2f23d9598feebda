"""The object a caller holds: frames in, sharp frames out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array, Backend
from allfocus.runtime.closing import Closing
from allfocus.runtime.errors import InputError
from allfocus.runtime.face import face
from allfocus.runtime.frame import checked, from_color, on_device, size_of, to_color
from allfocus.runtime.spec import Color, Graph, Size, Spec


@dataclass(frozen=True)
class Result:
    """What came out for one frame.

    `image` has the frame's shape, dtype and channel order. `defocus` is float32 [H, W], the blur
    radius in pixels, and `focus` is float32 [H, W], 1 where it is in focus and 0 where it is not;
    each is None where the model does not estimate it. `timings` are milliseconds: `pre`
    (checks, padding, conversion), `infer` and `post`.

    For a frame in GPU memory, `image` and `defocus` are the engine's own outputs, of the frame's
    size, in GPU memory and in the layout that `Graph` names: the map is 1 at `Spec.max_radius`
    pixels, and `infer` is the whole time.
    """

    image: Any
    defocus: Any | None
    timings: dict[str, float]
    focus: Any | None = None


class Deblurrer(Closing):
    """A loaded model: `deblur(frame) -> Result`. Made by `allfocus.load`; closes with `with`.

    Calls from several threads wait for each other. The first call of each frame size is slower:
    engines prepare themselves for it.
    """

    def __init__(
        self, backend: Backend, *, color: Color = "bgr", reasons: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.spec: Spec = backend.spec
        self.graph: Graph = backend.graph
        self.backend: str = backend.name
        self.color: Color = color
        self.reasons = list(reasons)  # (backend, why it was not taken)
        self._backend = backend
        self._face = face(backend.graph, color)
        self._lock = Lock()

    def __call__(self, frame: Any) -> Result:
        """Deblur one frame: uint8 [H, W, 3] in `color` order, of any size.

        Also uint16, and float32 in [0, 1], where the artefact was exported with `--io float`; grey
        [H, W] or [H, W, 1]; [H, W, 4], whose alpha is carried over. A frame in GPU memory goes to a
        TensorRT engine as it is. Raises InputError for anything else.
        """
        with self._lock:
            self._backend.check_open()
            return self._on_device(frame) if on_device(frame) else self._on_host(frame)

    def _on_host(self, frame: Any) -> Result:
        start = perf_counter()
        given = checked(frame, self.graph.io)
        size = size_of(given)
        image = self._face.pack(to_color(given), self._backend.size_for(size))
        packed = perf_counter()
        outputs = self._backend.infer(image)
        inferred = perf_counter()
        sharp = self._face.unpack(outputs.sharp, size, given.dtype)
        result = from_color(sharp, given)
        radius = _plane(outputs.defocus, size, self.spec.max_radius)
        focus = _plane(outputs.focus, size, 1.0)
        return Result(result, radius, _timings(start, packed, inferred, perf_counter()), focus)

    def _on_device(self, frame: Any) -> Result:
        order = self.graph.color if self.graph.io == "frame" else "rgb"
        if order != self.color:
            raise InputError(
                f"frame on a GPU in {self.color} order: the engine takes {order}, and such frames "
                f'go in as they are: give {order} frames and load with color="{order}"'
            )
        start = perf_counter()
        outputs = self._backend.infer_device(frame)
        end = perf_counter()
        timings = _timings(start, start, end, end)
        return Result(outputs.sharp, outputs.defocus, timings, outputs.focus)

    def close(self) -> None:
        """Release the engine; a second call does nothing, a later frame raises ArtefactError."""
        with self._lock:
            self._backend.close()


def _plane(plane: Array | None, size: Size, scale: float) -> Array | None:
    """The first pixels of a map [..., H, W], times `scale`, as float32 [H, W] of `size`."""
    if plane is None:
        return None
    cut = plane.reshape(plane.shape[-2:])[: size.height, : size.width]
    return np.multiply(cut, scale, dtype=np.float32)


def _timings(start: float, packed: float, inferred: float, end: float) -> dict[str, float]:
    """Milliseconds of each stage from its times in seconds."""
    return {
        "pre": (packed - start) * 1e3,
        "infer": (inferred - packed) * 1e3,
        "post": (end - inferred) * 1e3,
    }
