"""Peak memory of one contender, measured in a process of its own that does nothing else.

In one process with the others it could not be told apart, and PyTorch alone would hide the rest.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from allfocus.benchmarks.contenders import Recipe, opened
from allfocus.benchmarks.machine import require_psutil
from allfocus.benchmarks.schema import Memory, decode
from allfocus.runtime.child import output_of
from allfocus.runtime.memory import in_status
from allfocus.runtime.spec import Size


def peak(recipe: Recipe, size: Size) -> Memory:
    """Peak memory of a new process that opens `recipe` and deblurs one frame of `size`."""
    job = json.dumps([asdict(recipe), size.width, size.height])
    arguments = ["-m", "allfocus.benchmarks.memory", job]
    return decode(
        Memory, output_of(arguments, f"measuring memory of {recipe.kind} {recipe.backend}")
    )


def peak_rss() -> int:
    """Bytes of main memory this process has used at most."""
    # Not getrusage: Linux lets a child start with its parent's maximum.
    held = in_status("VmHWM")
    if held is not None:
        return held
    if sys.platform == "win32":
        return int(require_psutil().Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def gpu_used() -> int | None:
    """Bytes in use on all GPUs, by nvidia-smi; None where it is not installed or fails."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    values = done.stdout.split()
    if done.returncode != 0 or not values or not all(v.isdecimal() for v in values):
        return None
    return sum(int(v) for v in values) << 20


def main(argv: Sequence[str]) -> int:
    """The child's side: open, run once, print a Memory as JSON."""
    fields, width, height = json.loads(argv[0])
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    before = gpu_used()
    with opened(Recipe(**fields)) as contender:
        contender.run(frame)
        after = gpu_used() if contender.device == "cuda" else None
    growth = None if before is None or after is None else max(0, after - before)
    print(json.dumps(asdict(Memory(rss_bytes=peak_rss(), gpu_bytes=growth))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
