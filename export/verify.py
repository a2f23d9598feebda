"""Parity: does the ONNX file compute what the PyTorch net does? One run each on a real photo.

The reference is always the float32 net with plain NumPy around it, so that a mistake in a face
shows as well as one in the exported graph. ONNX Runtime runs the file on the CPU, through the same
backend that users load it with. Tolerances stand in `tolerance.py`.

ONNX Runtime's CPU computes a float16 graph in float32, so for fp16 the net is run once more with
every operator's result rounded to float16 (see `half.py`), on a smaller part of the photo: overflow
and lost precision show there, and it is held to the float face's tolerance.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

import allfocus
from allfocus.export.tolerance import TOLERANCES, Tolerance, tolerance
from allfocus.runtime.backend import Options, Outputs
from allfocus.runtime.errors import ParityError
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import Graph, Io, Precision, Size

if TYPE_CHECKING:
    from torch import Tensor

    from allfocus.train.models.base import Deblurrer

ANY_SIZE = Size(384, 256)  # pixels: what a graph that takes any size is checked at
HALF_SIZE = Size(192, 128)  # pixels: what float16 is tried on
_HIGHEST_PSNR = 200.0  # dB, of equal arrays: JSON has no infinity


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far an output is from the reference, where 1 is white (or the map's largest radius)."""

    max_abs: float
    mean_abs: float
    psnr_db: float  # at most 200
    changed: float  # share of the samples that differ at all

    def exceeds(self, limit: Tolerance) -> bool:
        """Whether any limit is broken; NaN breaks every one."""
        within = (
            limit.max_abs is None or self.max_abs <= limit.max_abs,
            limit.psnr_db is None or self.psnr_db >= limit.psnr_db,
            limit.changed is None or self.changed < limit.changed,
        )
        return not all(within)


def verify(onnx_file: Path, net: Deblurrer, graph: Graph) -> dict[str, float]:
    """Compare `onnx_file` with `net`, float32 in eval mode; figures for a manifest.

    `max_abs`, `mean_abs` and `psnr_db` are those of `sharp`; `defocus_...` those of the map, where
    the net estimates one; `float16_psnr_db`, for fp16 only, is that of `sharp` with every result
    rounded to float16.
    Raises ParityError with the figures where a tolerance is exceeded or a value is not finite.
    """
    photo = read_photo(graph.shapes.opt if graph.shapes else ANY_SIZE)
    expected = _reference(net, photo, graph.io)
    with OrtBackend(onnx_file, Options()) as backend:
        found = backend.infer(_packed(photo, graph))
    figures = compare(_in_rgb(found, graph), expected, graph)
    if graph.precision == "fp16":
        figures["float16_psnr_db"] = check_half(net)
    return figures


def check_half(net: Deblurrer) -> float:
    """PSNR in dB of the float32 `net` against itself in float16; raises ParityError under 60 dB."""
    import torch

    from allfocus.export.half import run_in_half

    photo = read_photo(HALF_SIZE.padded(net.multiple))
    expected = _reference(net, photo, "float")
    found = _float_outputs(*run_in_half(net, torch.from_numpy(_planes(photo))))
    graph = Graph(io="float", precision="fp16", color="rgb", shapes=None)
    return compare(found, expected, graph)["psnr_db"]


def compare(found: Outputs, expected: Outputs, graph: Graph) -> dict[str, float]:
    """The deviation of `found` from `expected`, both RGB in the layout of `graph`."""
    if (found.defocus is None) != (expected.defocus is None):
        lacking = "ONNX graph" if found.defocus is None else "PyTorch net"
        raise ParityError(f"the {lacking} gives no 'defocus', the other does; nothing was kept")
    limits = {"sharp": tolerance(graph)}
    if expected.defocus is not None:
        limits["defocus"] = TOLERANCES["float", graph.precision]
    deviations = {
        name: _measure(name, getattr(found, name), getattr(expected, name)) for name in limits
    }
    for name, deviation in deviations.items():
        if deviation.exceeds(limits[name]):
            raise ParityError(
                f"the ONNX graph's {name!r} is too far from the PyTorch net's: "
                f"{_text(asdict(deviation))}; allowed: {_text(limits[name].to_dict())}. "
                f"Nothing was kept{_ADVICE[graph.precision]}"
            )
    return {
        f"{_PREFIXES[name]}{figure}": getattr(deviation, figure)
        for name, deviation in deviations.items()
        for figure in ("max_abs", "mean_abs", "psnr_db")
    }


def read_photo(size: Size) -> NDArray[np.uint8]:
    """The package's photo, RGB [H, W, 3], cut around its middle or mirrored to `size`."""
    path = Path(allfocus.__file__).parent / "data" / "chelsea.png"
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None, f"{path}: the package is incomplete"
    missing = (max(0, size.height - image.shape[0]), max(0, size.width - image.shape[1]))
    grown = np.pad(image[..., ::-1], (*((0, m) for m in missing), (0, 0)), mode="reflect")
    top, left = (grown.shape[0] - size.height) // 2, (grown.shape[1] - size.width) // 2
    cut = grown[top : top + size.height, left : left + size.width]
    return np.ascontiguousarray(cut, dtype=np.uint8)


_PREFIXES = {"sharp": "", "defocus": "defocus_"}  # of an output's figures
_ADVICE: dict[Precision, str] = {
    "fp32": "; the graph computes something else than the net: report it with these figures",
    "fp16": "; these weights need a larger range or finer steps: use --precision fp32",
}


def _reference(net: Deblurrer, photo: NDArray[np.uint8], io: Io) -> Outputs:
    """What the face `io` of `net` must give for `photo`, in RGB."""
    import torch

    image = torch.from_numpy(_planes(photo))
    with torch.inference_mode():
        outputs = _float_outputs(*net(image))
    if io == "float":
        return outputs
    levels = np.rint(np.clip(outputs.sharp, 0, 1) * 255)
    plane = None if outputs.defocus is None else outputs.defocus[:, 0]
    return Outputs(np.moveaxis(levels, 1, 3), plane)


def _float_outputs(sharp: Tensor, defocus: Tensor | None) -> Outputs:
    """A net's outputs as the float face must give them."""
    return Outputs(sharp.numpy(), None if defocus is None else np.maximum(defocus.numpy(), 0))


def _planes(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    scaled = photo.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(np.moveaxis(scaled, 2, 0))[None]


def _packed(photo: NDArray[np.uint8], graph: Graph) -> NDArray[Any]:
    if graph.io == "float":
        return _planes(photo)
    return np.ascontiguousarray(photo[None, ..., ::-1] if graph.color == "bgr" else photo[None])


def _in_rgb(found: Outputs, graph: Graph) -> Outputs:
    if graph.color == "rgb":
        return found
    return Outputs(found.sharp[..., ::-1], found.defocus)


def _measure(name: str, found: NDArray[Any], expected: NDArray[Any]) -> Deviation:
    if found.shape != expected.shape:
        raise ParityError(
            f"the ONNX graph's {name!r} has shape {list(found.shape)}, the PyTorch net's "
            f"{list(expected.shape)}; nothing was kept"
        )
    for whose, values in (("PyTorch net", expected), ("ONNX graph", found)):
        if not np.isfinite(values).all():
            raise ParityError(
                f"the {whose}'s {name!r} holds NaN or infinity; nothing was kept. With fp16, try "
                "--precision fp32; with fp32, the weights are damaged"
            )
    white = 255.0 if found.dtype == np.uint8 else 1.0
    error = np.abs(found.astype(np.float64) - expected.astype(np.float64)) / white
    square = float(np.mean(error**2))
    return Deviation(
        max_abs=float(error.max()),
        mean_abs=float(error.mean()),
        psnr_db=min(_HIGHEST_PSNR, -10 * math.log10(square)) if square else _HIGHEST_PSNR,
        changed=float(np.count_nonzero(error)) / error.size,
    )


def _text(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
