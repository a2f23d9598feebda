"""The options that say which model runs and how, alike in every command, and the model itself."""

from __future__ import annotations

import argparse
from typing import Any

from allfocus.runtime import skip as skips
from allfocus.runtime.deblurrer import MEMORY, Deblurrer
from allfocus.runtime.load import load


def add_model_options(parser: argparse.ArgumentParser, *, default: str, each: str) -> None:
    """The options; `default` is a model, `each` what it does one after the other: a picture."""
    add = parser.add_argument
    add("--model", default=default, help="a name, an .onnx or an .engine file (%(default)s)")
    add("--backend", default="auto", help="auto, tensorrt, tensorrt-rtx, cuda or cpu (%(default)s)")
    add("--device", type=int, default=0, help="index of the GPU (%(default)s)")
    add("--threads", type=int, default=0, help="of the CPU; 0: all there are")
    add("--memory", default=MEMORY, help=f"for {each}, beside the model; larger ones: in tiles")
    add("--skip", type=skips.argument, default=skips.AUTO, help=skips.HELP)


def opened(asked: Any) -> Deblurrer:
    """Load the model that an object with the attributes of these options asks for.

    The errors are those of `load`.
    """
    return load(
        asked.model,
        backend=asked.backend,
        device=asked.device,
        threads=asked.threads,
        memory=asked.memory,
        skip=asked.skip,
    )
