"""The options that say which model runs and how, alike in every command, and the model itself."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from allfocus.runtime import ensemble as ensembles
from allfocus.runtime import skip as skips
from allfocus.runtime import trust as trusts
from allfocus.runtime.deblurrer import MEMORY, Deblurrer
from allfocus.runtime.load import load
from allfocus.runtime.probe import BACKENDS
from allfocus.runtime.reach import HELP as REACH
from allfocus.runtime.spec import PRECISIONS, Io, Precision


def add_model_options(parser: argparse.ArgumentParser, *, default: str, each: str) -> None:
    """The options; `default` is a model, `each` what it does one after the other: a picture."""
    add_engine_options(parser, default=default)
    add = parser.add_argument
    memory = f"for {each}, beside the model; larger ones: in tiles ({MEMORY})"
    add("--memory", help=memory)
    add("--skip", type=skips.argument, default=skips.AUTO, help=skips.HELP)
    add("--check", action="store_true", help="blur outputs again, and compare with their inputs")
    fallback = "let the input show through where the output is trusted less, 0 to 1 (not)"
    add("--ensemble", type=ensembles.argument, default=1, metavar="N", help=ensembles.HELP)
    add("--reach", type=float, metavar="PIXELS", help=REACH)
    add("--fallback", type=trusts.argument, metavar="TRUST", help=fallback)


def add_engine_options(
    parser: argparse.ArgumentParser, *, default: str, precisions: Sequence[Precision] = PRECISIONS
) -> None:
    """Those of a model of any kind: `default` is one, `precisions` what they may compute in."""
    add = parser.add_argument
    add("--model", default=default, help="a name, an .onnx or an .engine file (%(default)s)")
    add("--backend", default="auto", help=f"auto, {', '.join(BACKENDS)} (%(default)s)")
    choices = ("auto", *precisions)
    add("--precision", choices=choices, default="auto", help="what to compute in (%(default)s)")
    add("--device", type=int, default=0, help="index of the GPU (%(default)s)")
    add("--threads", type=int, default=0, help="of the CPU; 0: all there are")


def opened(asked: Any, io: Io | None = None) -> Deblurrer:
    """Load the model that an object with the attributes of these options asks for.

    `io` as in `load`, whose errors these are.
    """
    return load(
        asked.model,
        io=io,
        backend=asked.backend,
        precision=asked.precision,
        device=asked.device,
        threads=asked.threads,
        memory=asked.memory,
        skip=asked.skip,
        check=asked.check,
        fallback=asked.fallback,
        ensemble=asked.ensemble,
        reach=asked.reach,
    )
