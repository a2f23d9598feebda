"""A camera's pictures made sharp and shown, at the rate the machine allows.

    python examples/camera_loop.py 0                       # the first camera
    python examples/camera_loop.py rtsp://192.168.1.20/stream --deadline-ms 150
    python examples/camera_loop.py clip.mp4 --frames 50 --no-window

Frames that would be late are done by quicker ways, down to showing them as they came.
"""

from __future__ import annotations

import argparse
import sys

import cv2

import allfocus
from allfocus import Result
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams.camera import Camera
from allfocus.runtime.streams.counters import Snapshot
from allfocus.runtime.streams.frames import StreamFrame
from allfocus.runtime.streams.ladder import Step, pass_through
from allfocus.runtime.streams.simple import Callback


def watch(
    where: int | str, *, model: str, deadline_ms: float, frames: int | None, window: bool
) -> Snapshot:
    """Show sharp frames until q is pressed, or `frames` of them are done."""
    with allfocus.load(model) as deblur:
        shown = 0

        def show(_: StreamFrame, result: Result) -> None:
            nonlocal shown
            shown += 1
            if window:
                cv2.imshow("allfocus", result.image)
            if shown == frames or (window and cv2.waitKey(1) == ord("q")):
                pipeline.stop()

        coarse = deblur.variant(skip=1.5, coarse_map=True)
        pipeline = Pipeline(
            Camera(where),
            deblur,
            Callback(show),
            deadline_ms=deadline_ms,
            ladder=[Step("coarse", coarse), Step("as it is", pass_through)],
        )
        return pipeline.run()


def main(argv: list[str] | None = None) -> int:
    """Read the command line and watch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("camera", help="a number, or an address")
    parser.add_argument("--model", default="didanet-lite")
    parser.add_argument("--deadline-ms", type=float, default=200)
    parser.add_argument("--frames", type=int, help="end after so many")
    parser.add_argument("--no-window", action="store_true")
    args = parser.parse_args(argv)
    where = int(args.camera) if args.camera.isdecimal() else args.camera
    report = watch(
        where,
        model=args.model,
        deadline_ms=args.deadline_ms,
        frames=args.frames,
        window=not args.no_window,
    )
    print(report.line())
    return 0


if __name__ == "__main__":
    sys.exit(main())
