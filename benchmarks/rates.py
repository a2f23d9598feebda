"""What the devices of a run can do at most, measured in that run: matrix products of each type, and
copying. A contender's time is held against them.

A product of large matrices is what engines are tuned for most; a convolution that saves
multiplications (Winograd) may still be faster than all of its own at that rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from allfocus.benchmarks import flops
from allfocus.benchmarks.common import rounds, stats
from allfocus.benchmarks.kernel_clock import Clock, CpuClock, GpuClock, measure_rates
from allfocus.benchmarks.schema import CopyRate, Cost, Device, DeviceRates, MatrixRate
from allfocus.runtime.errors import BackendError
from allfocus.runtime.spec import Precision, Size, Spec

Wanted = tuple[Device, Precision]

_REPEATS = 5
_HALVES: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}
_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}


@dataclass(frozen=True)
class Work:
    """What a net must at least do for a frame. `bytes` is None where the layers are not known."""

    macs: float
    bytes: float | None

    def matrix_share(self, milliseconds: float, rate: MatrixRate | None) -> float | None:
        """Of the matrix rate; None where that was not measured."""
        if rate is None:
            return None
        return self.macs / (milliseconds / 1e3) / rate.macs_per_second

    def copy_share(self, milliseconds: float, rate: CopyRate | None) -> float | None:
        """Of the copying rate; None where one of both is not known."""
        if rate is None or self.bytes is None:
            return None
        return self.bytes / (milliseconds / 1e3) / rate.bytes_per_second


def work(spec: Spec, size: Size, precision: Precision) -> Work:
    """Of a frame of `size`, each layer reading and writing once, in values of `precision`."""
    padded = size.padded(spec.multiple)
    macs = spec.macs_per_pixel * padded.width * padded.height
    counted = _counted(spec.name, size)
    if abs(counted.macs - macs) > 0.01 * macs:  # other widths or depths than its name's
        return Work(macs, None)
    moved = counted.activation_bytes + counted.weight_bytes
    return Work(macs, moved / _BYTES["fp32"] * _BYTES[precision])


@cache
def _counted(model: str, size: Size) -> Cost:
    return flops.report(model, size, "fp32").total


def measure(wanted: Iterable[Wanted], threads: int) -> DeviceRates:
    """The rates for these types on these devices; what cannot be measured is named, with why."""
    torch.set_num_threads(threads)
    matrix: list[MatrixRate] = []
    copy: list[CopyRate] = []
    missing: dict[str, str] = {}
    asked = sorted(set(wanted))
    for device in sorted({device for device, _ in asked}):
        clock = _clock(device)
        if clock is None:
            missing[device] = "this PyTorch finds no GPU that it can use"
            continue
        single = measure_rates(clock, _REPEATS)
        copy.append(
            CopyRate(
                device=device, bytes_per_second=single.bytes_per_second, by=single.bandwidth_by
            )
        )
        plain = MatrixRate(
            device=device,
            precision="fp32",
            macs_per_second=single.fma_per_second,
            by=single.fma_by,
        )
        for precision in (p for d, p in asked if d == device):
            try:
                matrix.append(plain if precision == "fp32" else _matrix(clock, precision, threads))
            except (BackendError, ImportError, RuntimeError) as error:
                missing[f"{device} {precision}"] = str(error).strip().partition("\n")[0]
    return DeviceRates(matrix=tuple(matrix), copy=tuple(copy), missing=missing)


def _clock(device: Device) -> Clock | None:
    if device == "cpu":
        return CpuClock("CPU")
    return GpuClock(torch.device("cuda")) if torch.cuda.is_available() else None


def _matrix(clock: Clock, precision: Precision, threads: int) -> MatrixRate:
    side = clock.matrix
    if precision in _HALVES:
        run, by = _halves(clock, _HALVES[precision]), f"torch.mm of {precision}"
    elif precision == "int8":
        run, by = _integers(clock, threads)
    else:
        raise BackendError(f"no product of {precision} matrices is measured here")
    samples = rounds({"": lambda: clock.time(lambda: run)}, warmup=2, repeats=_REPEATS, seconds=0)
    return MatrixRate(
        device=clock.kind,
        precision=precision,
        macs_per_second=1e3 * side**3 / stats(samples[""]).median,
        by=f"{by}, {side}x{side}",
    )


def _halves(clock: Clock, dtype: torch.dtype) -> Callable[[], Sequence[Tensor]]:
    a, b = (torch.ones(clock.matrix, clock.matrix, dtype=dtype, device=clock.device) for _ in "ab")
    product = torch.empty_like(a)
    return lambda: (torch.mm(a, b, out=product),)


def _integers(clock: Clock, threads: int) -> tuple[Callable[[], Sequence[Tensor]], str]:
    """On a CPU by ONNX Runtime, twice as fast there as PyTorch; on a GPU by PyTorch."""
    if clock.kind == "cpu":
        session, feed = _integer_session(clock.matrix, threads)

        def run() -> Sequence[Tensor]:
            session.run(None, feed)
            return ()

        return run, "MatMulInteger of ONNX Runtime, uint8 by int8"
    a, b = (
        torch.ones(clock.matrix, clock.matrix, dtype=torch.int8, device=clock.device) for _ in "ab"
    )
    return lambda: (torch._int_mm(a, b),), "torch._int_mm"


def _integer_session(side: int, threads: int) -> tuple[Any, dict[str, Any]]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((side, side), np.int8), "b")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [side, side])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [side, side])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, {"a": np.ones((side, side), np.uint8)}
