"""A loaded graph of any kind: named pictures, maps and vectors in, others out."""

from __future__ import annotations

from typing import Any

import numpy as np

from allfocus.runtime.backend import Array, Backend
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.closing import Closing
from allfocus.runtime.errors import InputError
from allfocus.runtime.face import Face, face
from allfocus.runtime.form import form_of, pad
from allfocus.runtime.frame import checked
from allfocus.runtime.lanes import Lanes
from allfocus.runtime.layout import layout, multiple_in
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Color, Graph, Precision, Size, Spec


class Model(Closing):
    """`model(name=array, ...) -> {name: array}`. Made by `allfocus.load_model`; closes with `with`.

    Names are those of `graph.signature`. Pictures are frames as `Deblurrer` takes them, all of one
    size; planes are float32 [H, W], `defocus` in pixels of blur radius; vectors are float32 [K].
    Phase `estimate` gives its plane for the picture as it was padded, so that `restore`, which
    takes both sizes, computes what the whole model does.
    As many calls as `load_model` was given `streams` may be at work at once; one more waits.
    """

    def __init__(
        self, backend: Backend, *, color: Color = "bgr", reasons: list[tuple[str, str]]
    ) -> None:
        self.spec: Spec = backend.spec
        self.graph: Graph = backend.graph
        self.backend: str = backend.name
        self.precision: Precision = backend.precision
        self.reasons = reasons  # (backend, why it was not taken)
        self._backend = backend
        self.streams = backend.options.streams
        faces = (face(backend.graph, color) for _ in range(self.streams))  # they keep buffers
        self._faces: Lanes[Face] = Lanes(faces, str(backend.artefact))

    def __call__(self, **inputs: Any) -> dict[str, Array]:
        """Run the graph; pictures come out as those that went in: of their type, grey or with alpha
        where the first of the signature is.

        Raises InputError for inputs that are missing, unknown, or not of one size.
        """
        with self._faces.one() as face:
            self._backend.check_names(inputs)
            frames = {n: checked(a, self.graph.io) for n, a in inputs.items() if _is(n, "picture")}
            size = self._size(frames)
            padded = self._backend.size_for(self._with_planes(size, inputs))
            packed = {n: face.pack(face.form.opened(a), padded, n) for n, a in frames.items()}
            packed |= {n: self._enter(n, a, padded) for n, a in inputs.items() if n not in frames}
            outputs = self._backend.run(packed)
            first = next(frames[name] for name in self.graph.signature.inputs if name in frames)
            return {n: self._leave(n, array, size, first, face) for n, array in outputs.items()}

    def __repr__(self) -> str:
        return f"<allfocus.Model {self.spec.name}, {self.backend}, {self.precision}>"

    def close(self) -> None:
        """Release the engine, once the calls at work are done; a second call does nothing.

        A later call, and one that waited for its turn, raises ArtefactError.
        """
        self._faces.close()
        self._backend.close()

    def _size(self, frames: dict[str, Array]) -> Size:
        form = form_of("image", self.graph.io)
        sizes = {name: form.size(frame) for name, frame in frames.items()}
        if len(set(sizes.values())) == 1:
            return next(iter(sizes.values()))
        found = ", ".join(f"{name} {size}" for name, size in sizes.items())
        expected = ", ".join(n for n in self.graph.signature.inputs if _is(n, "picture"))
        raise InputError(f"{self.spec.name}: expected {expected} of one size, got {found}")

    def _with_planes(self, size: Size, inputs: dict[str, Any]) -> Size:
        """A picture's size, or that of the planes which `estimate` gave for it as it was padded.

        Raises InputError for planes of any other size.
        """
        known = MODELS.get(self.spec.name)
        multiple = multiple_in(self.graph.io, known.multiple if known else self.spec.multiple)
        usual, padded = self._backend.size_for(size), size.padded(multiple)
        allowed = dict.fromkeys((size, padded, usual))
        for name, given in inputs.items():
            if _is(name, "plane") and np.ndim(given) == 2:
                height, width = np.shape(given)
                if Size(width, height) not in allowed:
                    listed = " or ".join(map(str, allowed))
                    raise InputError(
                        f"{name} of {Size(width, height)}: expected that of the picture, {listed}"
                    )
                size = Size(max(size.width, width), max(size.height, height))
        return size

    def _enter(self, name: str, given: Any, size: Size) -> Array:
        """A plane or a vector in the graph's layout; what is unknown is left to the backend."""
        array = _numbers(name, given)
        if _is(name, "plane") and array.ndim == 2:
            scaled = array / np.float32(self.spec.max_radius) if name == "defocus" else array
            padded = pad(scaled, size)
            return padded.reshape(layout(name, self.graph.io).shape(size))
        return array.reshape(1, -1, 1, 1) if _is(name, "vector") and array.ndim == 1 else array

    def _leave(self, name: str, array: Array, size: Size, frame: Array, face: Face) -> Array:
        if _is(name, "picture"):
            return face.form.closed(face.unpack(array, size, frame.dtype), frame)
        if _is(name, "vector"):
            return array.reshape(-1)
        plane = array.reshape(array.shape[-2:])
        if self.graph.phase != "estimate":
            plane = plane[: size.height, : size.width]
        scale = self.spec.max_radius if name == "defocus" else 1.0
        return np.multiply(plane, scale, dtype=np.float32)


def _numbers(name: str, given: Any) -> Array:
    """As float32; raises InputError for what holds no finite numbers.

    Radii may be under 0: an estimator's are, here and there, and give what the whole model gives.
    """
    raw = np.asarray(given)
    if raw.dtype.kind not in "fiu":
        raise InputError(f"{name}: expected numbers, got {raw.dtype} {list(raw.shape)}")
    with np.errstate(over="ignore"):
        array = np.asarray(raw, np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{name}: expected finite numbers, got NaN or infinity: fill them first")
    return array


def _is(name: str, kind: str) -> bool:
    return KINDS.get(name) == kind
