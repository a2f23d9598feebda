"""What `bench latency` compares: a model in one of the runtime's backends, eager PyTorch, and
classical baselines under that model's map.

A Recipe is plain data, so that another process can open the same contender to measure its memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from allfocus.benchmarks.schema import Role
from allfocus.runtime.spec import Precision

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from allfocus.benchmarks.baselines import Baseline
    from allfocus.runtime.deblurrer import Deblurrer, Result
    from allfocus.train.models.base import Net

Frame = NDArray[np.uint8]  # [H, W, 3], BGR
_LABELS = {
    "cpu": "ONNX Runtime, CPU",
    "cuda": "ONNX Runtime, CUDA",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT for RTX",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to open a contender.

    `runtime`: `model` is a name or an artefact's path, `backend` one of the runtime's.
    `eager`: `model` is a name, `backend` a torch device, "cpu" or "cuda", `weights` as
    `allfocus export` takes them.
    `classical`: `model` and `backend` as for `runtime`, whose map `baseline` works under.
    """

    kind: Literal["runtime", "eager", "classical"]
    model: str
    backend: str
    threads: int
    weights: str = ""
    baseline: str = ""


@dataclass(frozen=True)
class Call:
    """Milliseconds of one call. `total` is by the caller's clock, not a sum."""

    pre: float
    infer: float
    post: float
    total: float


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something that deblurs frames and can be timed."""

    label: str
    role: Role
    precision: Precision
    on_gpu: bool
    model: str
    weights: str
    weights_sha256: str
    passed_over: dict[str, str]  # backends that "auto" would have preferred -> why not
    run: Callable[[Frame], tuple[Frame, Call]]


@contextmanager
def opened(recipe: Recipe) -> Iterator[Contender]:
    """The contender of `recipe`, loaded; closed at the end. Raises what loading raises."""
    if recipe.kind == "eager":
        yield _eager(recipe)
    elif recipe.kind == "classical":
        with _open_classical(recipe) as baseline:
            assert baseline.estimator is not None
            label = f"{recipe.baseline}, CPU"
            yield _loaded(baseline, baseline.estimator, label, "classical")
    else:
        from allfocus.runtime.load import load

        with load(recipe.model, backend=recipe.backend, threads=recipe.threads) as deblur:
            label = f"{_LABELS[deblur.backend]}, {deblur.graph.precision}"
            yield _loaded(deblur, deblur, label, "runtime")


def _open_classical(recipe: Recipe) -> Baseline:
    from allfocus.benchmarks.baselines import open_baseline

    return open_baseline(
        recipe.baseline, model=recipe.model, backend=recipe.backend, threads=recipe.threads
    )


def _loaded(
    call: Callable[[Frame], Result], deblur: Deblurrer, label: str, role: Role
) -> Contender:
    """What makes a Result of a frame by means of a loaded model."""

    def run(frame: Frame) -> tuple[Frame, Call]:
        start = time.perf_counter()
        result = call(frame)
        total = 1e3 * (time.perf_counter() - start)
        return result.image, Call(**result.timings, total=total)

    return Contender(
        label=label,
        role=role,
        precision=deblur.graph.precision,
        on_gpu=deblur.backend != "cpu",
        model=deblur.spec.name,
        weights=deblur.spec.weights,
        weights_sha256=deblur.spec.weights_sha256,
        passed_over=dict(deblur.reasons),
        run=run,
    )


def _eager(recipe: Recipe) -> Contender:
    """PyTorch as its tutorials run a net: contiguous NCHW, float32, inference mode."""
    import torch

    from allfocus.export import weights

    torch.set_num_threads(recipe.threads)
    net, spec = weights.parse(recipe.weights, recipe.model).load(recipe.model)
    device = torch.device(recipe.backend)
    net = net.to(device)

    def run(frame: Frame) -> tuple[Frame, Call]:
        with torch.inference_mode():
            return _eager_call(net, frame, device)

    return Contender(
        label=f"PyTorch eager, {device.type.upper()}, fp32",
        role="baseline",
        precision="fp32",
        on_gpu=device.type != "cpu",
        model=recipe.model,
        weights=spec.weights,
        weights_sha256=spec.weights_sha256,
        passed_over={},
        run=run,
    )


def _eager_call(net: Net, frame: Frame, device: torch.device) -> tuple[Frame, Call]:
    start = time.perf_counter()
    image = _pack(frame, net.multiple, device)
    _wait(device)
    packed = time.perf_counter()
    sharp = net.run("whole", image)[0]
    _wait(device)
    inferred = time.perf_counter()
    picture = _unpack(sharp, frame.shape[:2])
    end = time.perf_counter()
    stages = (packed - start, inferred - packed, end - inferred, end - start)
    return picture, Call(*(1e3 * seconds for seconds in stages))


def _pack(frame: Frame, multiple: int, device: torch.device) -> Tensor:
    """uint8 BGR [H, W, 3] -> float32 RGB [1, 3, H', W'] in [0, 1], mirrored to the multiple."""
    import torch
    import torch.nn.functional as F

    height, width = frame.shape[:2]
    image = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).to(device)
    planes = image.permute(2, 0, 1)[None].to(torch.float32).div_(255).contiguous()
    border = (0, -width % multiple, 0, -height % multiple)
    return F.pad(planes, border, mode="reflect") if any(border) else planes


def _unpack(sharp: Tensor, shape: tuple[int, ...]) -> Frame:
    """float32 RGB [1, 3, H', W'] -> uint8 BGR [H, W, 3]."""
    import torch

    height, width = shape
    levels = sharp[0, :, :height, :width].clamp(0, 1).mul(255).round().to(torch.uint8)
    bgr: Any = levels.flip(0).permute(1, 2, 0).contiguous().cpu().numpy()
    return np.asarray(bgr, np.uint8)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
