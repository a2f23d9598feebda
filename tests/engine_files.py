"""Engine files for `fake_trt`, with their manifests, and pictures for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import specs
from fake_trt import LAYOUTS

from allfocus.runtime.layout import layout
from allfocus.runtime.manifest import SCHEMA, Flavour, Manifest, manifest_path, sha256
from allfocus.runtime.signature import DEBLUR, Signature
from allfocus.runtime.spec import Graph, Io, Shapes, Size

SPEC = replace(specs.SPEC, max_radius=16.0)


def engine_file(
    folder: Path,
    *,
    io: Io = "frame",
    shapes: tuple[str, str] = ("4x4", "64x64"),
    flavour: Flavour = "tensorrt",
    version: str = "10.13.2.6",
    targets: tuple[str, ...] = ("sm89",),
    defocus: bool = True,
    tensors: dict[str, Any] | None = None,
    plugins: bool = False,
) -> Path:
    """Write an engine and its manifest; `shapes` are the smallest and the largest size."""
    path = folder / "didanet-tiny.engine"
    smallest, largest = (Size.parse(text) for text in shapes)
    kind = "FLOAT" if io == "float" else "UINT8"
    kinds = {"image": kind, "sharp": kind, "defocus": "FLOAT"}
    names = [name for name in kinds if defocus or name != "defocus"]
    dims = {n: [-1 if isinstance(a, str) else a for a in LAYOUTS[io][n]] for n in names}
    found = {n: (kinds[n], dims[n]) for n in names} | (tensors or {})
    facts = {"io": io, "sizes": shapes, "tensors": {n: t for n, t in found.items() if t}}
    facts["plugins"] = plugins
    path.write_text(json.dumps(facts), encoding="utf-8")
    manifest = Manifest(
        schema=SCHEMA,
        allfocus="0.1.0",
        spec=SPEC,
        graph=Graph(
            io=io,
            precision="fp16",
            color="rgb",
            shapes=Shapes(smallest, largest, largest),
            signature=DEBLUR if defocus else Signature(("image",), ("sharp",)),
        ),
        flavour=flavour,
        flavour_version=version,
        targets=targets,
        key="key",
        engine_sha256=sha256(path),
        engine_bytes=path.stat().st_size,
        onnx="didanet-tiny.onnx",
        onnx_sha256="0" * 64,
        build_seconds=0.1,
        canary="",
        parity={},
        options={"plugins": plugins},
    )
    manifest_path(path).write_text(manifest.to_json(), encoding="utf-8")
    return path


def picture(io: Io, size: Size, seed: int = 0) -> np.ndarray[Any, Any]:
    """A host image in the graph's layout."""
    random, shape = np.random.default_rng(seed), layout("image", io).shape(size)
    if io == "float":
        return random.random(shape, np.float32)
    return random.integers(0, 256, shape, np.uint8)
