"""What a net and its graph are compared on: a real photo, and what the phases make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import allfocus
from allfocus.runtime.layout import multiple_in
from allfocus.runtime.signature import KINDS, Signature
from allfocus.runtime.spec import Graph, Size
from allfocus.train.models.base import Net

Arrays = dict[str, NDArray[Any]]
Tensors = dict[str, Tensor]

_SHIFT = 2  # pixels between the two views of a dual-pixel photo
_BLUR = 2.0  # pixels: sigma of the photo's blurred version


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


def multiple(net: Net, graph: Graph) -> int:
    """What height and width are multiples of in `graph`: its phase of `net`, in its face."""
    return multiple_in(graph.io, net.multiple_of(graph.phase))


def inputs(net: Net, signature: Signature, size: Size) -> Tensors:
    """Inputs of a phase of `net` from the photo at `size`, in the net's layout, by name.

    What `restore` takes beside pictures is what `estimate` gives, in the same order.
    """
    photo = read_photo(size)
    names = [name for name in signature.inputs if KINDS[name] == "picture"]
    given = {name: planes(_view(name, photo)) for name in names}
    rest = [name for name in signature.inputs if name not in given]
    if rest:
        with torch.inference_mode():
            given |= zip(rest, net.run("estimate", *given.values()), strict=True)
    return given


def cut(tensors: Tensors, graph: Graph) -> Tensors:
    """Outputs as the graph gives them: planes are at least 0, but those of phase `estimate`."""
    if graph.phase == "estimate":
        return tensors
    return {n: t.clamp(min=0) if KINDS[n] == "plane" else t for n, t in tensors.items()}


def planes(photo: NDArray[np.uint8]) -> Tensor:
    """RGB levels [H, W, 3] as float32 [1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(photo.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]


def _view(name: str, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The photo as the picture `name`."""
    if name == "blurry":
        return np.asarray(cv2.GaussianBlur(photo, (0, 0), _BLUR), np.uint8)
    return np.roll(photo, _SHIFT, axis=1) if name == "right" else photo
