"""A GStreamer pipeline as the camera: any source that GStreamer knows.

    python examples/gstreamer.py "v4l2src ! videoconvert ! video/x-raw,format=BGR ! appsink drop=1"

OpenCV must be built with GStreamer, which the wheels of PyPI are not: distributions' own packages
(python3-opencv) and NVIDIA's JetPack are.
"""

from __future__ import annotations

import argparse
import sys

import cv2

import allfocus
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams.camera import Camera
from allfocus.runtime.streams.simple import Callback

TEST = "videotestsrc num-buffers=30 ! videoconvert ! video/x-raw,format=BGR ! appsink"


def has_gstreamer() -> bool:
    """Whether OpenCV here was built with it."""
    lines = cv2.getBuildInformation().splitlines()
    return any("GStreamer" in line and "YES" in line for line in lines)


def main(argv: list[str] | None = None) -> int:
    """Deblur what the pipeline gives until it gives nothing for 5 s."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pipeline", nargs="?", default=TEST, help="ends in appsink, gives BGR")
    parser.add_argument("--model", default="didanet-lite")
    args = parser.parse_args(argv)
    if not has_gstreamer():
        print("gstreamer: OpenCV here was built without GStreamer", file=sys.stderr)
        return 1
    with allfocus.load(args.model) as deblur:
        camera = Camera(args.pipeline, patience=5)
        sizes: list[tuple[int, ...]] = []
        sink = Callback(lambda _, result: sizes.append(result.image.shape))
        try:
            Pipeline(camera, deblur, sink).run()
        except allfocus.AllfocusError as error:
            print(f"gstreamer: {error}", file=sys.stderr)
    print(f"{len(sizes)} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
