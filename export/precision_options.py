"""The options of `allfocus export` that say what a graph computes in."""

from __future__ import annotations

import argparse
from pathlib import Path

from allfocus.export.histogram import METHODS
from allfocus.export.reduction import AUTO, MAX_LOSS, PURPOSES
from allfocus.runtime.spec import PRECISIONS


def add_precision(parser: argparse.ArgumentParser) -> None:
    """--precision, and how 8 bits are found and judged."""
    add = parser.add_argument
    add(
        "--precision",
        choices=(*PRECISIONS, AUTO),
        default="fp16",
        help="auto: int8, but for the layers that must not be for --max-loss (default fp16)",
    )
    add(
        "--for",
        dest="purpose",
        choices=PURPOSES,
        help="what runs the 8 bits, which want them written differently: trt, or with --onnx-only "
        "ort (its default) or openvino",
    )
    add(
        "--calibrate",
        type=Path,
        metavar="DIR",
        help="photos as the camera makes them, to find the ranges of 8 bits on; default: those of "
        "the package's weights, or generated scenes",
    )
    add("--ranges", type=Path, metavar="FILE", help="ranges that an export has found before")
    add("--method", choices=METHODS, default="mse", help="what a range spans (default mse)")
    add(
        "--max-loss",
        metavar="DB",
        help=f"what 8 bits may cost on the evaluation set, such as 0.05dB (default {MAX_LOSS:g})",
    )
    add("--accept-loss", action="store_true", help="write files that lose more than that, too")
