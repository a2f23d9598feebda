"""The options that choose a graph's face, alike in both export commands."""

from __future__ import annotations

import argparse
from typing import TypedDict, get_args

from allfocus.runtime.errors import UsageError
from allfocus.runtime.spec import IOS, YUV, Color, Graph, Io, Matrix, Range


class FaceOf(TypedDict):
    """The fields of a Graph that are its face."""

    io: Io
    color: Color
    matrix: Matrix
    range: Range


def add_face(parser: argparse.ArgumentParser, usual: Io) -> None:
    """Options `--io` with the default `usual`, `--color`, `--matrix` and `--range`."""
    parser.add_argument(
        "--io",
        choices=IOS,
        default=usual,
        help="the graph's face: frames of 8 bits, float images, frames of 16 bits, or a decoder's "
        f"luma and chroma of 8 or 10 bits (default {usual})",
    )
    parser.add_argument("--color", choices=("rgb", "bgr"), default="rgb", help="order of frames")
    parser.add_argument(
        "--matrix",
        choices=get_args(Matrix),
        help=f"of nv12 and p010: between RGB and luma, chroma (default {Graph.matrix})",
    )
    parser.add_argument(
        "--range", choices=get_args(Range), help=f"of nv12 and p010 (default {Graph.range})"
    )


def face_of(io: Io, color: Color, matrix: Matrix | None, limits: Range | None) -> FaceOf:
    """The face that the options mean; raises UsageError for one that does not exist."""
    if color != "rgb" and io in ("float", *YUV):
        why = "takes RGB only" if io == "float" else "has no order of channels"
        raise UsageError(f"--color {color}: the {io} face {why}; use it with --io frame or frame16")
    for option, given in (("--matrix", matrix), ("--range", limits)):
        if given is not None and io not in YUV:
            raise UsageError(
                f"{option} {given}: the {io} face has none; use it with --io nv12, p010"
            )
    return FaceOf(io=io, color=color, matrix=matrix or Graph.matrix, range=limits or Graph.range)
