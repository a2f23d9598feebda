"""A tiny net's graph, and ranges of it found on a few crops."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray

from allfocus.export import to_onnx
from allfocus.export.calibration import crops_of
from allfocus.export.observe import observe
from allfocus.export.packaged import graph_of
from allfocus.export.quality import run_ort
from allfocus.export.ranges import Ranges
from allfocus.runtime.spec import Spec
from allfocus.train import checkpoint
from allfocus.train.models.base import Net

TINY = "didanet-tiny"


@cache
def net_and_spec(name: str = TINY) -> tuple[Net, Spec]:
    net, spec = checkpoint.random(name, 0)
    return net.eval(), spec


@cache
def traced(name: str = TINY) -> tuple[onnx.ModelProto, Spec]:
    net, spec = net_and_spec(name)
    graph = graph_of(name)
    return to_onnx.export(net, to_onnx.of_graph(spec, net, graph), graph), spec


@cache
def ranges(name: str = TINY) -> Ranges:
    model, spec = traced(name)
    return observe(model, spec, crops_of(None, 3, 64), "mse")


def picture(height: int = 48, width: int = 64) -> NDArray[np.float32]:
    levels = np.random.default_rng(1).integers(0, 256, (1, 3, height, width))
    return (levels / 255).astype(np.float32)


def sharp(model: onnx.ModelProto, image: NDArray[np.float32]) -> NDArray[np.float32]:
    return run_ort(model)(image)


def psnr(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(-10 * np.log10(max(np.mean((a - b) ** 2), 1e-12)))
