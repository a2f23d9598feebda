"""Deblurrers of tiny models that have room for tiles of so many pixels, and frames for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny_graphs import Floats, exported, graph_of

from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.signature import Phase
from allfocus.runtime.skip import Choice
from allfocus.runtime.spec import Shapes, Size

Array = NDArray[Any]
CUT = [n for n, m in MODELS.items() if "restore" in m.signatures]
EACH = 1000.0  # bytes a pixel, in these tests


@contextmanager
def opener(floats: Floats, folder: Path) -> Iterator[Callable[..., Deblurrer]]:
    """Makes Deblurrers of tiny models, closed at the end; `pixels`: of the largest tile."""

    def sized(name: str, phase: Phase, shape: Size | Shapes) -> Path:
        path = folder / f"{name}-{phase}.onnx"
        shapes = Shapes.static(shape) if isinstance(shape, Size) else shape
        graph = graph_of(name, phase, "float", "fp32", shapes)
        exported(name, graph, path)
        return path

    with ExitStack() as stack:

        def make(
            name: str,
            pixels: int = 10**9,
            skip: Choice = "off",
            halo: int | None = None,
            shape: Size | Shapes | None = None,
        ) -> Deblurrer:
            def load(phase: Phase) -> Backend:
                path = floats.file(name, phase) if shape is None else sized(name, phase, shape)
                backend = OrtBackend(path, Options(threads=1))
                pooled = "context" in backend.graph.signature.outputs
                # A frame that fits at once is not cut, and what pools must see all of it.
                whole = 4 if name in CUT else 1
                backend.bytes_per_pixel = (
                    1e-3 if pooled else EACH * (whole if phase == "whole" else 1)
                )
                if halo is not None:
                    backend.spec = replace(backend.spec, halo=halo)
                return backend

            both = (lambda: (load("estimate"), load("restore"))) if name in CUT else None
            memory = int(pixels * (EACH + 40))
            deblur = Deblurrer(load("whole"), phases=both, memory=memory, skip=skip)
            return stack.enter_context(deblur)

        yield make


def photo(height: int, width: int, dtype: type = np.uint8) -> Array:
    """Something with edges and noise: what a wrong margin would show in."""
    rng = np.random.default_rng(height)
    coarse = rng.random((height // 16 + 1, width // 16 + 1, 3))
    image = 0.8 * np.kron(coarse, np.ones((16, 16, 1)))[:height, :width]
    image += 0.2 * rng.random((height, width, 3))
    return (image * (255 if dtype == np.uint8 else 1)).astype(dtype)
