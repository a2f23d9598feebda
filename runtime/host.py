"""What this machine is: its CPU, and which packages that matter here are installed.

Nothing is imported for it. GPUs are asked in `gpu`, usable CPUs counted in `cpus`.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "allfocus",
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-python",
    "polygraphy",
    "scikit-image",
    "scipy",
)
_FEATURES = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"),
)
# What macOS calls them; see `sysctl hw.optional`.
_SYSCTL = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.fma": "fma",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.arm.FEAT_FP16": "asimdhp",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
}
_BRAND = "machdep.cpu.brand_string"
_CPUINFO = Path("/proc/cpuinfo")


def describe_cpu() -> tuple[str, tuple[str, ...]]:
    """The CPU's name, and those of its features that matter here; none where the OS is silent."""
    if _CPUINFO.is_file():
        return parse_cpuinfo(_CPUINFO.read_text(encoding="utf-8"))
    command = shutil.which("sysctl")
    if platform.system() == "Darwin" and command is not None:
        query = [command, _BRAND, "hw.optional"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
        return parse_sysctl(done.stdout)
    return _plain_name(), ()


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Name and features from /proc/cpuinfo."""
    found = _pairs(text)
    flags = set(found.get("flags", found.get("features", "")).split())
    name = found.get("model name") or _plain_name()
    if {"cpu family", "model", "stepping"} <= set(found):  # hypervisors shorten the name
        name += f" (family {found['cpu family']}, model {found['model']})"
    return name, tuple(f for f in _FEATURES if f in flags)


def parse_sysctl(text: str) -> tuple[str, tuple[str, ...]]:
    """Name and features from what macOS' `sysctl` prints."""
    found = _pairs(text)
    flags = {ours for theirs, ours in _SYSCTL.items() if found.get(theirs.lower()) == "1"}
    return found.get(_BRAND) or _plain_name(), tuple(f for f in _FEATURES if f in flags)


def installed_packages() -> dict[str, str]:
    """The versions of those of PACKAGES that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _pairs(text: str) -> dict[str, str]:
    """`key: value` lines with the keys in lower case; the last one counts."""
    lines = (line.partition(":") for line in text.splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in lines}


def _plain_name() -> str:
    return platform.processor() or platform.machine()
