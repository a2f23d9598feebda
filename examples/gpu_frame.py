"""Frames that are in GPU memory already, with CuPy or PyCUDA: nothing is copied to the host.

Needs an NVIDIA GPU, an engine for it (`allfocus export --model didanet-lite --size 1280x720`), and
CuPy or PyCUDA. No GPU has run this example yet.

    python examples/gpu_frame.py --with cupy
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import allfocus


def with_cupy(deblur: allfocus.Deblurrer, frame: np.ndarray) -> np.ndarray:
    """CuPy: DLPack and `__cuda_array_interface__` in, the result back as a CuPy array."""
    import cupy

    result = deblur(cupy.asarray(frame))
    sharp: Any = cupy.asarray(result.image)  # the engine's own memory, not a copy
    return np.asarray(cupy.asnumpy(sharp))


def with_pycuda(deblur: allfocus.Deblurrer, frame: np.ndarray) -> np.ndarray:
    """PyCUDA: a GPUArray goes in by `__cuda_array_interface__`.

    In the primary context, where the engine works: `pycuda.autoinit` would make another one, in
    which the engine's memory is not valid.
    """
    import pycuda.autoprimaryctx  # noqa: F401
    from pycuda import driver, gpuarray

    result = deblur(gpuarray.to_gpu(frame))
    face = result.image.__cuda_array_interface__
    sharp = np.empty(face["shape"], np.dtype(face["typestr"]))
    driver.memcpy_dtoh(sharp, face["data"][0])
    return sharp


WAYS = {"cupy": with_cupy, "pycuda": with_pycuda}


def main(argv: list[str] | None = None) -> int:
    """Deblur one frame in GPU memory and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--with", dest="way", choices=WAYS, default="cupy")
    parser.add_argument("--model", default="didanet-lite")
    args = parser.parse_args(argv)
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    try:
        with allfocus.load(args.model, backend="tensorrt", color="rgb") as deblur:
            sharp = WAYS[args.way](deblur, frame)
    except (allfocus.AllfocusError, ImportError) as error:
        print(f"gpu_frame: {error}", file=sys.stderr)
        return 1
    print(f"{sharp.shape} from {args.way}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
