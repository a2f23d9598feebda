"""What `--precision int8`, `fp8` and `auto` ask for, and whether what it is for can run it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from allfocus.export.histogram import METHODS, Method
from allfocus.export.quantize import Dialect
from allfocus.runtime.errors import UsageError, nearest
from allfocus.runtime.spec import Precision

Purpose = Literal["trt", "ort", "openvino"]
PURPOSES: tuple[Purpose, ...] = ("trt", "ort", "openvino")
AUTO = "auto"
REDUCED = ("int8", "fp8", AUTO)  # what is calibrated, and measured on the evaluation set
MAX_LOSS = 0.10  # dB on the evaluation set
_ABLE: Mapping[str, int] = {"bf16": 80, "fp8": 89, "int8": 75}  # from which SM on
_BASE: Mapping[Purpose, Precision] = {"trt": "fp16", "ort": "fp32", "openvino": "fp32"}


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """How convolutions are brought to 8 bits."""

    purpose: Purpose
    kind: Precision  # "int8" or "fp8"
    max_loss: float = MAX_LOSS  # dB of PSNR on the evaluation set against float32
    search: bool = False  # whether layers are raised until `max_loss` holds
    forced: bool = False  # publish it all the same where it does not
    calibrate: Path | None = None  # a folder of pictures
    ranges: Path | None = None  # a file of ranges
    method: Method = "mse"

    @property
    def dialect(self) -> Dialect:
        """Of the Q/DQ nodes."""
        return "fp8" if self.kind == "fp8" else self.purpose

    @property
    def base(self) -> Precision:
        """Of all that is not in 8 bits."""
        return _BASE[self.purpose]


def reduction_of(options: Any) -> Reduction | None:
    """The Reduction that the command line asks for; None where nothing is brought to 8 bits.

    Raises UsageError for options that do not fit one another.
    """
    if options.precision not in REDUCED:
        _refuse_idle(options)
        return None
    purpose = _purpose(options)
    if options.calibrate and not options.calibrate.is_dir():
        raise UsageError(f"--calibrate {options.calibrate}: expected a folder of photos")
    if options.ranges and not options.ranges.is_file():
        raise UsageError(f"--ranges {options.ranges}: expected a file that an export has written")
    if options.ranges and options.calibrate:
        raise UsageError("--ranges and --calibrate: ranges come from one of them; give one")
    if options.method not in METHODS:
        raise UsageError(f"unknown --method {options.method!r}: {nearest(options.method, METHODS)}")
    if options.ranges and options.method != "mse":
        raise UsageError("--method with --ranges: they are what a method has found already")
    return Reduction(
        purpose=purpose,
        kind="fp8" if options.precision == "fp8" else "int8",
        max_loss=MAX_LOSS if options.max_loss is None else parse_loss(options.max_loss),
        search=options.precision == AUTO,
        forced=options.accept_loss,
        calibrate=options.calibrate,
        ranges=options.ranges,
        method=options.method,
    )


def parse_loss(text: str) -> float:
    """Read "0.05dB" or "0.05"; raises UsageError."""
    try:
        loss = float(text.lower().removesuffix("db").strip())
    except ValueError:
        loss = math.nan
    if not 0 <= loss < math.inf:
        raise UsageError(f"--max-loss {text}: expected decibels of 0 or more, such as 0.05dB")
    return loss


def check_able(precision: str, targets: Sequence[str]) -> None:
    """Raise UsageError where a GPU that the engine is for cannot compute in `precision`."""
    if precision not in _ABLE:
        return
    unable = [each for each in targets if _number(each) < _ABLE[precision]]
    if unable:
        least = min(_number(each) for each in unable)
        able = ["fp32", "fp16", *(name for name, first in _ABLE.items() if least >= first)]
        raise UsageError(
            f"--precision {precision}: {', '.join(unable)} cannot, that takes sm{_ABLE[precision]} "
            f"or newer; expected one of {', '.join(able)}, or another --target"
        )


def _number(target: str) -> int:
    return int(target.removeprefix("sm"))


def _purpose(options: Any) -> Purpose:
    asked: Purpose = options.purpose or ("ort" if options.onnx_only else "trt")
    if asked not in PURPOSES:
        raise UsageError(f"unknown --for {asked!r}: {nearest(asked, PURPOSES)}")
    if asked != "trt" and not options.onnx_only:
        raise UsageError(f"--for {asked} makes no engine: give --onnx-only too, or --for trt")
    if asked != "trt" and options.precision == "fp8":
        raise UsageError(
            "--precision fp8: no CPU computes convolutions in it; expected int8, or --for trt"
        )
    return asked


def _refuse_idle(options: Any) -> None:
    """Options of 8 bits have no effect on other precisions."""
    given = {
        "--for": options.purpose,
        "--calibrate": options.calibrate,
        "--ranges": options.ranges,
        "--max-loss": options.max_loss,
        "--accept-loss": options.accept_loss,
        "--method": options.method != "mse",
    }
    idle = [name for name, value in given.items() if value]
    if idle:
        raise UsageError(
            f"{', '.join(idle)} with --precision {options.precision}: for {', '.join(REDUCED)} only"
        )
