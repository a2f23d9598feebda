"""A GStreamer pipeline as the camera: any source that GStreamer knows.

    python examples/gstreamer.py "v4l2src ! videoconvert ! video/x-raw,format=BGR ! appsink drop=1"

It takes an OpenCV that was built with GStreamer, which the wheels of PyPI are not, or PyGObject:
`apt install python3-gi gir1.2-gst-plugins-base-1.0`, in an environment made with
--system-site-packages.
"""

from __future__ import annotations

import argparse
import sys

import allfocus
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams.camera import Camera
from allfocus.runtime.streams.frames import StreamFrame
from allfocus.runtime.streams.simple import Callback

TEST = (
    "videotestsrc is-live=true ! video/x-raw,width=320,height=240 ! videoconvert ! appsink drop=1"
)


def main(argv: list[str] | None = None) -> int:
    """Deblur what the pipeline gives: `--frames` of it, or until it has given nothing for 5 s."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pipeline", nargs="?", default=TEST, help="ends in appsink, gives BGR")
    parser.add_argument("--model", default="didanet-lite")
    parser.add_argument("--frames", type=int, help="end after so many")
    args = parser.parse_args(argv)
    sizes: list[tuple[int, ...]] = []

    def take(_: StreamFrame, result: allfocus.Result) -> None:
        sizes.append(result.image.shape)
        if len(sizes) == args.frames:
            pipeline.stop()

    with allfocus.load(args.model) as deblur:
        try:
            pipeline = Pipeline(Camera(args.pipeline, patience=5), deblur, Callback(take))
            pipeline.run()
        except allfocus.AllfocusError as error:
            print(f"gstreamer: {error}", file=sys.stderr)
    of = "".join(sorted({f" of {width}x{height}" for height, width, _ in sizes}))
    print(f"{len(sizes)} frames{of}")
    return 0 if sizes else 1


if __name__ == "__main__":
    sys.exit(main())
