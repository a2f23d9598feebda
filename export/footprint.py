"""The memory an ONNX file takes on a CPU for each pixel of its picture, measured and written down.

In a process of its own, with an arena that holds what was asked for and no more. It only grows: the
difference in resident memory over one run is what the run's largest moment took.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from allfocus.runtime.backend import Options
from allfocus.runtime.child import output_of
from allfocus.runtime.errors import AllfocusError
from allfocus.runtime.memory import resident
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import MEMORY_KEY, Size

log = logging.getLogger("allfocus")

_SIZE = Size(512, 384)  # pixels: large against what does not grow with the picture


def measure(path: Path) -> float:
    """Bytes a pixel that running the ONNX file `path` takes; raises AllfocusError."""
    arguments = ["-m", "allfocus.export.footprint", str(path)]
    return float(output_of(arguments, f"measuring the memory of {path}"))


def write_down(path: Path) -> None:
    """Measure the ONNX file `path` and put the figure into its metadata, where this system tells
    what a process holds; without psutil some do not. Where it cannot be measured, that is told, and
    the file stays without."""
    if resident() is None:
        return
    try:
        figure = measure(path)
    except AllfocusError as error:
        log.warning("%s; the file does not say how much it takes", error)
        return
    model = onnx.load(str(path), load_external_data=False)
    model.metadata_props.add(key=MEMORY_KEY, value=f"{figure:.0f}")
    path.write_bytes(model.SerializeToString(deterministic=True))


class _Frugal(OrtBackend):
    """Takes from the system exactly what the graph asks for, instead of ever larger pieces."""

    def _session_options(self, ort: Any) -> Any:
        kind, where = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
        as_asked = ort.OrtArenaCfg({"arena_extend_strategy": 1})
        ort.create_and_register_allocator(ort.OrtMemoryInfo("Cpu", kind, 0, where), as_asked)
        options = super()._session_options(ort)
        options.add_session_config_entry("session.use_env_allocators", "1")
        return options


def main(argv: Sequence[str]) -> int:
    """The child's side: run once at a small size and once at `_SIZE`, or what the graph takes that
    is nearest to them, print bytes a pixel."""
    with _Frugal(Path(argv[0]), Options()) as backend:
        small, size = (backend.size_for(_within(backend, each)) for each in (Size(1, 1), _SIZE))
        if small != size:  # what the first run alone takes
            backend.run(backend.blank(small))
        before = resident()
        backend.run(backend.blank(size))
        after = resident()
    if before is None or after is None:
        raise AllfocusError('this system needs psutil for it: pip install "allfocus[bench]"')
    print(max(0, after - before) / (size.width * size.height))
    return 0


def _within(backend: OrtBackend, size: Size) -> Size:
    """`size`, made as large or small as the graph's sizes are."""
    shapes = backend.graph.shapes
    if shapes is None:
        return size
    return Size(
        min(max(size.width, shapes.min.width), shapes.max.width),
        min(max(size.height, shapes.min.height), shapes.max.height),
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
