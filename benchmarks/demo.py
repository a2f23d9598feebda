"""The demo: from weights through ONNX to a TensorRT engine, and a photo made sharp on the CPU.

`make demo` runs it. All figures that it prints are measured in this run, or read from the manifest
of the engine where the cache held one.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.benchmarks.common import PHOTO, table
from allfocus.benchmarks.panels import Frame, compose
from allfocus.benchmarks.sharpness import Band, by_blur
from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.catalogue import MODELS, entry
from allfocus.runtime.command import DONE, script
from allfocus.runtime.errors import BackendError, CheckpointError
from allfocus.runtime.frame import to_color
from allfocus.runtime.pictures.image import read_image
from allfocus.runtime.pictures.metadata import orientation, upright
from allfocus.runtime.spec import Size
from allfocus.train.picture_file import write_picture as save

TARGETS = "sm86,sm89,sm120"  # GeForce RTX 30, 40 and 50
SIZE = Size(600, 400)  # of the engine's frames; larger photos are made to fit


@dataclass(frozen=True, kw_only=True)
class Deblurred:
    """What the runtime made of the photo."""

    before: Frame
    after: Frame
    defocus: NDArray[np.float32] | None  # [H, W], pixels of blur radius
    artefact: str
    backend: str
    load_seconds: float
    milliseconds: float  # of the call


def export_engine(model: str, weights: str | None) -> tuple[dict[str, Any], str]:
    """Export `model` for TensorRT for RTX; `allfocus export`'s report, and why no engine, or "".

    Where TensorRT for RTX cannot be had, the ONNX file is made alone.
    """
    from allfocus.export.plan import Options, make_plan
    from allfocus.export.to_trt import export

    wanted = Options(
        model=model,
        weights=weights,
        precision="fp16",
        size=str(SIZE),
        backend="tensorrt-rtx",
        target=TARGETS,
    )
    try:
        return export(make_plan(wanted)[0]), ""
    except BackendError as error:
        problem = str(error)
    alone = replace(wanted, backend="auto", target=None, onnx_only=True)
    return export(make_plan(alone)[0]), problem


def read_photo(path: Path) -> Frame:
    """A photo, upright, as uint8 BGR [H, W, 3], made smaller where it is larger than SIZE.

    Raises InputError where it cannot be read.
    """
    picture = read_image(path)
    pixels = picture.pixels
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 2:  # grey and alpha
        pixels = pixels[..., 0]
    image = upright(to_color(pixels), orientation(picture.metadata))
    height, width = image.shape[:2]
    scale = min(SIZE.width / width, SIZE.height / height)
    if scale >= 1:
        return np.asarray(image, np.uint8)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def deblur(source: str, frame: Frame) -> Deblurred:
    """Run the model or artefact `source` on the CPU."""
    from allfocus.runtime.load import load

    start = time.perf_counter()
    with load(source, backend="cpu") as model:
        loaded = time.perf_counter()
        result = model(frame)
        end = time.perf_counter()
        return Deblurred(
            before=frame,
            after=result.image,
            defocus=result.defocus,
            artefact=source,
            backend=model.backend,
            load_seconds=loaded - start,
            milliseconds=1e3 * (end - loaded),
        )


def write_picture(path: Path, made: Deblurred) -> None:
    """Write the panels of `made` as a PNG; raises AllfocusError where that cannot be done."""
    save(path, compose(made.before, made.after, made.defocus))


def render(report: dict[str, Any], problem: str, made: Deblurred, picture: Path) -> str:
    """The table of what was made, and what was measured on it."""
    height, width = made.before.shape[:2]
    lines = [
        f"{report['model']}, weights: {report['weights']}",
        "",
        table(_files(report, picture, made), left=2),
        "",
        f"parity   {_parity(report['parity'])}",
        f"engine   {_engine(report, problem)}",
        f"photo    {width}x{height}, {Path(made.artefact).name} on ONNX Runtime ({made.backend}): "
        f"loaded in {made.load_seconds:.1f} s, deblurred in {made.milliseconds / 1e3:.1f} s",
    ]
    if made.defocus is not None:
        lines += [
            "",
            table(_sharpness(by_blur(made.before, made.after, made.defocus))),
            "sharpness: mean squared gradient of the luminance, after / before",
        ]
    return "\n".join(lines)


def _files(report: dict[str, Any], picture: Path, made: Deblurred) -> list[tuple[str, ...]]:
    took = report["seconds"]
    traced = None if report["cached"] else took["export"]
    built = None if report["cached"] else took.get("build")
    rows: list[tuple[str, ...]] = [("made", "file", "size", "seconds")]
    rows.append(_file("ONNX graph", report["onnx"], traced))
    if report["engine"] is not None:
        rows.append(_file("TensorRT engine", report["engine"], built))
    panels = "before, after" if made.defocus is None else "before, after, map"
    return [*rows, _file(panels, str(picture), made.milliseconds / 1e3)]


def _file(what: str, path: str, seconds: float | None) -> tuple[str, ...]:
    took = "from cache" if seconds is None else f"{seconds:.1f}"
    return what, _short(path), f"{Path(path).stat().st_size / 1e6:.2f} MB", took


def _short(path: str) -> str:
    home = str(Path.home())
    return "~" + path.removeprefix(home) if path.startswith(home + os.sep) else path


def _parity(parity: dict[str, Any]) -> str:
    allowed = ", ".join(f"{name} {value:.2g}" for name, value in parity["tolerance"].items())
    return (
        f"ONNX fp16 against PyTorch fp32 on a photo: max_abs {parity['max_abs']:.2g}, mean_abs "
        f"{parity['mean_abs']:.2g}, psnr_db {parity['psnr_db']:.1f} (allowed: {allowed})"
    )


def _engine(report: dict[str, Any], problem: str) -> str:
    if problem:
        return f"not built: {problem}"
    builder = f"{report['backend']} {report['flavour_version']}"
    return f"by {builder}, ahead of time, for {', '.join(report['targets'])}; not run here"


def _sharpness(bands: Sequence[Band]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("estimated blur radius", "of the picture", "sharpness", "PSNR to the input")
    ]
    for band in bands:
        last = math.isinf(band.high)
        name = f"{band.low:g} pixels and more" if last else f"{band.low:g} to {band.high:g} pixels"
        share, gain = f"{100 * band.share:.1f} %", f"{band.gain:.2f} x"
        rows.append((name, share, gain, f"{band.psnr_db:.1f} dB"))
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the demo."""
    add = parser.add_argument
    add("--model", default="didanet-lite", help=f"one of {', '.join(MODELS)}")
    add("--weights", help="FILE or random:SEED; default: the package's")
    add("--photo", type=Path, default=PHOTO, help="a photo with defocus; default: the package's")
    add("--out", type=Path, default=Path("demo-out"), help="folder for the picture (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Export, deblur, write the picture, tell."""
    start = time.perf_counter()
    _check_weights(entry(args.model).name, args.weights)
    frame = read_photo(args.photo)
    report, problem = export_engine(args.model, args.weights)
    if problem:
        print(f"allfocus: no engine: {problem}", file=sys.stderr)
    # The package's model takes any size; weights of one's own are in the file just exported.
    made = deblur(args.model if args.weights is None else report["onnx"], frame)
    picture = args.out / f"{args.photo.stem}-{args.model}.png"
    write_picture(picture, made)
    print(render(report, problem, made, picture))
    print(f"\ndone in {time.perf_counter() - start:.1f} s: look at {picture}")
    return DONE


def _check_weights(model: str, weights: str | None) -> None:
    """Refuse to show what random weights make, unless they are asked for."""
    if weights is None and not packaged_onnx(model).is_file():
        raise CheckpointError(
            f"the package carries no weights of {model!r}, and random ones show nothing: give "
            "--weights FILE, or --weights random:0 to try it all the same"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m allfocus.benchmarks.demo`."""
    return script("allfocus.benchmarks.demo", __doc__ or "", add_arguments, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
