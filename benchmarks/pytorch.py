"""Ways to run a net in PyTorch, to compare the runtime with: frames in, frames out."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from allfocus.benchmarks.calls import Call, Frame
from allfocus.benchmarks.schema import Device
from allfocus.export import weights
from allfocus.runtime.errors import BackendError
from allfocus.runtime.spec import Precision, Spec
from allfocus.train.tf32 import tf32

if TYPE_CHECKING:
    from allfocus.train.models.base import Net

Way = Literal["eager", "channels-last", "compiled", "autocast", "half"]
Whole = Callable[[Tensor], Tensor]  # [1, 3, H, W] in [0, 1] -> the same, sharp


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a way does with a net."""

    label: str
    precision: Precision = "fp32"
    channels_last: bool = True
    compiled: bool = False
    devices: tuple[Device, ...] = ("cpu", "cuda")


KINDS: dict[Way, Kind] = {
    # As its tutorials run a net: contiguous NCHW, float32, inference mode. All is compared with it.
    "eager": Kind(label="PyTorch eager", channels_last=False),
    "channels-last": Kind(label="PyTorch channels-last"),
    "compiled": Kind(label="PyTorch compiled", channels_last=False, compiled=True),
    "autocast": Kind(label="PyTorch autocast channels-last", precision="bf16"),
    "half": Kind(label="PyTorch half channels-last", precision="fp16", devices=("cuda",)),
}


def label(way: Way, device: str) -> str:
    """Such as "PyTorch eager, CPU, fp32"."""
    kind = KINDS[way]
    return f"{kind.label}, {device.upper()}, {kind.precision}"


def missing(device: Device) -> str:
    """Why this PyTorch cannot run on `device`; "" where it can."""
    if device == "cpu" or torch.cuda.is_available():
        return ""
    return f"torch {torch.__version__} finds no GPU that it can use"


class Runner:
    """A net with the weights that `asked` names, on a device: `runner(frame) -> (frame, Call)`.

    Raises BackendError, also when a frame is run, for what PyTorch cannot do here.
    """

    def __init__(self, model: str, asked: str, way: Way, device: Device, threads: int) -> None:
        torch.set_num_threads(threads)
        self._kind = KINDS[way]
        self._label = label(way, device)
        self._device = torch.device(device)
        net, self.spec = weights.parse(asked, model).load(model)
        self._whole = self._prepared(net)

    spec: Spec

    def _prepared(self, net: Net) -> Whole:
        kind = self._kind
        layout = torch.channels_last if kind.channels_last else torch.contiguous_format
        net = net.to(self._device, memory_format=layout)  # type: ignore[call-overload]
        if kind.precision == "fp16":
            net = net.half()
        whole: Any = net.phases()["whole"]
        if kind.compiled:
            whole = torch.compile(whole, dynamic=False)
        return lambda image: _first(whole(image))

    def __call__(self, frame: Frame) -> tuple[Frame, Call]:
        """Deblur uint8 [H, W, 3] BGR of any size, and time it."""
        device = self._device
        try:
            with torch.inference_mode(), self._types(), tf32(False):
                start = time.perf_counter()
                image = self._pack(frame)
                _wait(device)
                packed = time.perf_counter()
                sharp = self._whole(image)
                _wait(device)
                inferred = time.perf_counter()
                picture = _unpack(sharp, frame.shape[:2])
                end = time.perf_counter()
        except RuntimeError as error:  # also those of torch.compile, and of memory
            cause = str(error).strip().partition("\n")[0] or type(error).__name__
            raise BackendError(f"{self._label}: {cause}") from error
        stages = (packed - start, inferred - packed, end - inferred, end - start)
        return picture, Call(*(1e3 * seconds for seconds in stages))

    def _types(self) -> Any:
        if self._kind.precision != "bf16":
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)

    def _pack(self, frame: Frame) -> Tensor:
        """uint8 BGR [H, W, 3] -> RGB [1, 3, H', W'] in [0, 1], mirrored to the net's multiple."""
        kind, multiple = self._kind, self.spec.multiple
        height, width = frame.shape[:2]
        image = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).to(self._device)
        dtype = torch.float16 if kind.precision == "fp16" else torch.float32
        planes = image.permute(2, 0, 1)[None].to(torch.float32).div_(255).to(dtype)
        border = (0, -width % multiple, 0, -height % multiple)
        planes = F.pad(planes, border, mode="reflect") if any(border) else planes
        layout = torch.channels_last if kind.channels_last else torch.contiguous_format
        return planes.contiguous(memory_format=layout)


def _first(outputs: Any) -> Tensor:
    """The sharp picture, of a net that gives a map too or not."""
    sharp: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return sharp


def _unpack(sharp: Tensor, shape: tuple[int, ...]) -> Frame:
    """RGB [1, 3, H', W'] -> uint8 BGR [H, W, 3]."""
    height, width = shape
    levels = sharp[0, :, :height, :width].float().clamp(0, 1).mul(255).round().to(torch.uint8)
    bgr: Any = levels.flip(0).permute(1, 2, 0).contiguous().cpu().numpy()
    return np.asarray(bgr, np.uint8)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
