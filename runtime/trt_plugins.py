"""This project's TensorRT plugins, made known to TensorRT before it meets them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import allfocus
from allfocus.kernels.architectures import covers, listed, names
from allfocus.kernels.plugin_library import HOW
from allfocus.runtime.errors import BackendError

if TYPE_CHECKING:
    from allfocus.runtime.trt_engine import ErrorLog

_NAMES = {"IsotropicConv", "SftModulate"}
_NAMESPACE = "allfocus"
_UNKNOWN = "unknown"  # where the plugins were built by themselves


@cache
def load_plugins(trt: Any, library: Path, log: ErrorLog, targets: tuple[str, ...]) -> None:
    """Register the plugins of `library` with TensorRT (its module), once a process.

    A Builder or Runtime made with `log` must be there: it is how TensorRT learns where errors go.
    Raises BackendError where TensorRT cannot load the library, where it belongs to another version
    of allfocus, holds no code for a GPU of `targets`, or was built for another major version:
    TensorRT would load such a one, and crash when it first logs something. Where the program has
    registered them itself, they stay.
    """
    version = _said(library, "allfocus_version")
    if version not in (None, _UNKNOWN, allfocus.__version__):
        raise BackendError(
            f"{library} belongs to allfocus {version}, and this is {allfocus.__version__}: {HOW}; "
            "or export with --plugins off"
        )
    made_for, here = _major(library), int(trt.__version__.partition(".")[0])
    if made_for not in (None, here):
        raise BackendError(
            f"{library} was built for TensorRT {made_for}, and this is {trt.__version__}: "
            f"{HOW}; or export with --plugins off"
        )
    if problem := unfit(library, targets):
        raise BackendError(f"{problem}; or export with --plugins off")
    registry = trt.get_plugin_registry()
    ours = {c.name for c in registry.all_creators if c.plugin_namespace == _NAMESPACE}
    if ours >= _NAMES:  # loading them once more would count as failure
        return
    if registry.load_library(str(library)) is None:
        raise BackendError(
            f"TensorRT {trt.__version__} cannot load its plugins from {library}: {log.tail()}; "
            f"for this release, {HOW}"
        )


def unfit(library: Path, targets: Sequence[str]) -> str:
    """Why the kernels of `library` do not run on GPUs of `targets` ("sm86"); "" where they do, or
    it does not say for which GPUs it was compiled."""
    held = listed(_said(library, "allfocus_architectures") or "")
    missing = [t for t in targets if held and not covers(held, int(t.removeprefix("sm")))]
    if not missing:
        return ""
    wanted = ";".join(t.removeprefix("sm") for t in missing)
    return (
        f"{library} is compiled for {names(held)}, and the engine is for {', '.join(missing)}: add "
        f'-DCMAKE_CUDA_ARCHITECTURES="{wanted}" to the first command when you {HOW}'
    )


def _said(library: Path, function: str) -> str | None:
    """What a library's `function` says of it in words; None where it has none."""
    try:
        asked = getattr(ctypes.CDLL(str(library)), function)
    except (OSError, AttributeError):
        return None
    asked.restype = ctypes.c_char_p
    return bytes(asked()).decode()


def _major(library: Path) -> int | None:
    """The TensorRT major version that a library was built for; None where it does not say."""
    try:
        return int(ctypes.CDLL(str(library)).allfocus_plugins_tensorrt())
    except (OSError, AttributeError):
        return None  # not our library: TensorRT will tell why it cannot load it
