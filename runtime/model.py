"""A loaded graph of any kind: named pictures, maps and vectors in, others out."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array, Backend
from allfocus.runtime.closing import Closing
from allfocus.runtime.errors import InputError
from allfocus.runtime.face import face, pad
from allfocus.runtime.frame import checked, size_of, to_color
from allfocus.runtime.layout import layout
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Color, Graph, Size, Spec


class Model(Closing):
    """`model(name=array, ...) -> {name: array}`. Made by `allfocus.load_model`; closes with `with`.

    Names are those of `graph.signature`. Pictures are frames as `Deblurrer` takes them, all of one
    size; planes are float32 [H, W], `defocus` in pixels of blur radius; vectors are float32 [K].
    Phase `estimate` gives its plane for the picture as it was padded, so that `restore`, which
    takes both sizes, computes what the whole model does.
    Calls from several threads wait for each other.
    """

    def __init__(
        self, backend: Backend, *, color: Color = "bgr", reasons: list[tuple[str, str]]
    ) -> None:
        self.spec: Spec = backend.spec
        self.graph: Graph = backend.graph
        self.backend: str = backend.name
        self.reasons = reasons  # (backend, why it was not taken)
        self._backend = backend
        self._face = face(backend.graph, color)
        self._lock = Lock()

    def __call__(self, **inputs: Any) -> dict[str, Array]:
        """Run the graph; pictures come out in the type of those that went in.

        Raises InputError for inputs that are missing, unknown, or not of one size.
        """
        with self._lock:
            self._backend.check_open()
            frames = {n: checked(a, self.graph.io) for n, a in inputs.items() if _is(n, "picture")}
            size = self._size(frames)
            padded = self._backend.size_for(size)
            packed = {n: self._face.pack(to_color(a), padded, n) for n, a in frames.items()}
            packed |= {n: self._enter(n, a, padded) for n, a in inputs.items() if n not in frames}
            outputs = self._backend.run(packed)
            dtype = next(iter(frames.values())).dtype
            return {n: self._leave(n, array, size, dtype) for n, array in outputs.items()}

    def close(self) -> None:
        """Release the engine; a second call does nothing, a later frame raises ArtefactError."""
        with self._lock:
            self._backend.close()

    def _size(self, frames: dict[str, Array]) -> Size:
        sizes = {name: size_of(frame) for name, frame in frames.items()}
        if len(set(sizes.values())) == 1:
            return next(iter(sizes.values()))
        found = ", ".join(f"{name} {size}" for name, size in sizes.items()) or "no picture"
        expected = ", ".join(n for n in self.graph.signature.inputs if _is(n, "picture"))
        raise InputError(f"{self.spec.name}: expected {expected} of one size, got {found}")

    def _enter(self, name: str, given: Any, size: Size) -> Array:
        """A plane or a vector in the graph's layout; what is unknown is left to the backend."""
        array = np.asarray(given, np.float32)
        if _is(name, "plane") and array.ndim == 2:
            scaled = array / np.float32(self.spec.max_radius) if name == "defocus" else array
            height, width = scaled.shape
            if height > size.height or width > size.width:
                raise InputError(
                    f"{name} of {Size(width, height)}: larger than the picture, {size}"
                )
            padded = pad(scaled, size)
            return padded.reshape(layout(name, self.graph.io).shape(size))
        return array.reshape(1, -1, 1, 1) if _is(name, "vector") and array.ndim == 1 else array

    def _leave(self, name: str, array: Array, size: Size, dtype: np.dtype[Any]) -> Array:
        if _is(name, "picture"):
            return self._face.unpack(array, size, dtype)
        if _is(name, "vector"):
            return array.reshape(-1)
        plane = array.reshape(array.shape[-2:])
        if self.graph.phase != "estimate":
            plane = plane[: size.height, : size.width]
        scale = self.spec.max_radius if name == "defocus" else 1.0
        return np.multiply(plane, scale, dtype=np.float32)


def _is(name: str, kind: str) -> bool:
    return KINDS.get(name) == kind
