"""Where the TensorRT plugin library lies; see trt_plugins/README.md.

It is lib/liballfocus_plugins.so beside this module, where CMake puts it, or the file that the
environment variable ALLFOCUS_PLUGINS names. Nothing is imported here that a camera program lacks:
the runtime asks too, before it loads an engine with plugins.
"""

from __future__ import annotations

import os
from pathlib import Path

from allfocus.runtime.errors import BackendError

VARIABLE = "ALLFOCUS_PLUGINS"
BUILT = Path(__file__).parent / "lib" / "liballfocus_plugins.so"
HOW = (
    "build it in allfocus' source folder: cmake -S . -B out -DTensorRT_ROOT=DIR && "
    "cmake --build out -j, where DIR holds TensorRT's include/NvInfer.h"
)


def find_plugins() -> Path | None:
    """The library's path, None where it was not built.

    Raises BackendError where the variable names a file that does not exist.
    """
    named = os.environ.get(VARIABLE)
    if named and not Path(named).is_file():
        raise BackendError(f"{VARIABLE}={named}: no such file; unset it, or {HOW}")
    path = Path(named) if named else BUILT
    return path.resolve() if path.is_file() else None


def require_plugins() -> Path:
    """The library's path; raises BackendError, which says how to build, where there is none."""
    path = find_plugins()
    if path is None:
        raise BackendError(
            f"the TensorRT plugins are not built ({BUILT} is missing): {HOW}; where allfocus is "
            f"installed without its source, set {VARIABLE} to the library built elsewhere"
        )
    return path
