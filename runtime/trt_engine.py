"""From an engine file to a deserialised engine, for both flavours of TensorRT.

The flavours have one Python interface; what differs is in `FLAVOURS` and in `rtx.py`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from threading import Lock, get_ident
from typing import Any

from allfocus.kernels.plugin_library import require_plugins
from allfocus.runtime.cudart import Device
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.layout import layout
from allfocus.runtime.manifest import Flavour, Manifest
from allfocus.runtime.memory import Allowance, format_bytes, sufficient_bytes
from allfocus.runtime.remake import engine_command
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Io
from allfocus.runtime.trt_plugins import load_plugins

log = logging.getLogger("allfocus")

_ERRORS_KEPT = 16  # of all threads
_ERRORS_TOLD = 3


@dataclass(frozen=True)
class _Names:
    title: str
    module: str
    extra: str  # of pip install "allfocus[...]"


FLAVOURS: dict[Flavour, _Names] = {
    "tensorrt": _Names("TensorRT", "tensorrt", "trt"),
    "tensorrt-rtx": _Names("TensorRT for RTX", "tensorrt_rtx", "trt-rtx"),
}


def import_flavour(flavour: Flavour) -> Any:
    """The Python module of a flavour."""
    names = FLAVOURS[flavour]
    try:
        return import_module(names.module)
    except (ImportError, OSError) as error:  # OSError: a library of it is missing
        raise BackendError(
            f'{names.title} cannot be imported ({error}): pip install "allfocus[{names.extra}]"'
        ) from error


def check_version(engine: Path, manifest: Manifest, trt: Any) -> None:
    """Refuse an engine of another release than the one installed.

    NVIDIA: RTX engines "are not compatible between different releases", those of TensorRT "only
    with the version used to build them" (unless built version-compatible, which costs speed and is
    not done here). A release is major.minor.patch; the build number after it changes with the
    package, and TensorRT itself has the last word on it.
    """
    if _release(manifest.flavour_version) != _release(trt.__version__):
        raise ArtefactError(
            f"{engine}: built by {FLAVOURS[manifest.flavour].title} {manifest.flavour_version}, "
            f"{trt.__version__} is installed, and engines fit one release only; "
            f"{again(engine, manifest)}"
        )


def check_target(engine: Path, manifest: Manifest, device: Device, trt: Any) -> None:
    """Refuse an engine that was built for other GPUs than this one."""
    if device.target in manifest.targets:
        return
    mismatch = (
        f"{engine}: built for {', '.join(manifest.targets)}, GPU {device.index} "
        f"({device.name}) is {device.target}"
    )
    if manifest.flavour == "tensorrt":
        where = f", with CUDA_VISIBLE_DEVICES={device.index}" if device.index else ""
        raise ArtefactError(f"{mismatch}; on this machine{where}, {again(engine, manifest)}")
    known = {name.lower() for name in trt.ComputeCapability.__members__}
    if device.target not in known:
        raise ArtefactError(
            f"{mismatch}, which TensorRT for RTX {trt.__version__} cannot build for; use TensorRT: "
            f"`{engine_command(manifest.spec, manifest.graph, engine, 'tensorrt')}`"
        )
    targets = ",".join((*manifest.targets, device.target))
    raise ArtefactError(f"{mismatch}; {again(engine, manifest, f'--target {targets}')}")


def check_plugins(engine: Path, manifest: Manifest) -> None:
    """Refuse an engine that needs plugins where their library is not."""
    if not manifest.plugins:
        return
    try:
        require_plugins()
    except BackendError as error:
        raise BackendError(
            f"{engine}: built with plugins: {error}; or, to do without them, "
            f"{again(engine, manifest, '--plugins off')}"
        ) from None


def again(engine: Path, manifest: Manifest, *options: str) -> str:
    """The command that mends an engine."""
    flavour = manifest.flavour
    command = engine_command(manifest.spec, manifest.graph, engine, flavour, *options, "--force")
    return f"export it again with `{command}`"


class LoadedEngine:
    """A deserialised engine with the runtime it needs, and the plugins where it has some."""

    def __init__(self, path: Path, manifest: Manifest, trt: Any) -> None:
        self.path = path
        self.trt = trt
        self.manifest = manifest
        self.log = error_log(trt)
        self.log.forget_all()
        self.runtime = self._start()
        if manifest.plugins:
            load_plugins(trt, require_plugins(), self.log, manifest.targets)
        data = path.read_bytes()
        self.engine = self.runtime.deserialize_cuda_engine(data)
        if self.engine is None:
            raise ArtefactError(
                f"{path}: {FLAVOURS[manifest.flavour].title} {trt.__version__} cannot load it: "
                f"{self._diagnosis(data)}{self.log.tail()}; {again(path, manifest)}"
            )
        self._check_tensors(path)
        self._creating = Lock()
        self._give_back: Callable[[], None] = lambda: None

    def _start(self) -> Any:
        try:
            return self.trt.Runtime(self.log.logger)
        except (TypeError, RuntimeError) as error:  # pybind11's "factory function returned nullptr"
            raise BackendError(
                f"{FLAVOURS[self.manifest.flavour].title} {self.trt.__version__} cannot start: "
                f"{self.log.tail()}; see that the NVIDIA driver is new enough for it (`allfocus "
                "doctor` tells its version) and that GPU memory is free"
            ) from error

    def create_context(self, configure: Callable[[], Any] | None = None) -> Any:
        """An execution context; `configure` makes its configuration, which RTX takes.

        Contexts run at once in threads of their own, all with the engine's one optimisation
        profile; they are made one after the other, for the engine itself is not safe for threads.
        Each takes the memory that the engine works in at its largest size.
        """
        with self._creating:
            self.log.forget()
            create = self.engine.create_execution_context
            context = create() if configure is None else create(configure())
        if context is None:
            raise BackendError(
                f"{FLAVOURS[self.manifest.flavour].title} cannot make room for the engine "
                f"({self.log.tail()}): free GPU memory, load it with fewer streams, or export it "
                "for smaller frames"
            )
        return context

    def take_room(self, memory: Allowance | None, streams: int, most: int) -> int:
        """How many execution contexts each of `streams` may have: `most`, where memory has no
        limit; elsewhere one, whose memory is taken. Raises BackendError where too little is left.
        """
        if memory is None:
            return most
        # The first is of TensorRT 10.1 on, where the second is deprecated; RTX has it alone. It may
        # be 0.
        each = getattr(self.engine, "device_memory_size_v2", None)
        each = self.engine.device_memory_size if each is None else each
        if not memory.take(streams * each):
            raise BackendError(
                f"{self.path}: each stream works in {sufficient_bytes(each)} of GPU memory, of "
                f"which memory={format_bytes(memory.limit)} leaves {format_bytes(memory.left)} for "
                f"{streams}; give more, load it with fewer streams, or export it for smaller "
                "frames: larger ones are done in tiles"
            )
        self._give_back = partial(memory.give_back, streams * each)
        return 1

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the engine's outputs."""
        return self.manifest.graph.signature.outputs

    def close(self) -> None:
        """Give the engine's memory back; contexts made from it must be gone."""
        del self.engine
        del self.runtime
        self._give_back()

    def _names(self) -> list[str]:
        return [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]

    def _check_tensors(self, path: Path) -> None:
        io = self.manifest.graph.io
        signature = self.manifest.graph.signature
        found = {name: _describe(self.engine, name, io) for name in self._names()}
        wanted = {
            **{name: _expected("INPUT", name, io) for name in signature.inputs},
            **{name: _expected("OUTPUT", name, io) for name in signature.outputs},
        }
        if found != wanted:
            raise ArtefactError(
                f"{path}: its tensors are {found}, a graph with the face {io!r} has {wanted}; "
                f"{again(path, self.manifest)}"
            )

    def _diagnosis(self, data: bytes) -> str:
        """What the engine's header says against this machine; only RTX can tell."""
        if self.manifest.flavour == "tensorrt":
            return ""
        header = data[: self.runtime.engine_header_size]
        validity, flags = self.runtime.get_engine_validity(header)
        if validity != self.trt.EngineValidity.INVALID:
            return ""
        causes = self.trt.EngineInvalidityDiagnostics.__members__
        return ", ".join(name for name, cause in causes.items() if flags & cause.value) + "; "


_TYPES = {"uint8": "UINT8", "float32": "FLOAT"}


def _expected(mode: str, name: str, io: Io) -> str:
    """The tensor `name` as `_describe` tells it."""
    wanted = layout(name, io)
    return f"{mode} {_TYPES[wanted.dtype.name]} [{', '.join(map(str, wanted.axes))}]"


def _describe(engine: Any, name: str, io: Io) -> str:
    """A tensor of the engine, with letters where any extent will do."""
    shape: list[object] = list(engine.get_tensor_shape(name))
    if name in KINDS and len(shape) == len(layout(name, io).axes):
        axes = layout(name, io).axes
        shape = [a if isinstance(a, str) else n for a, n in zip(axes, shape, strict=True)]
    text = ", ".join(str(extent) for extent in shape)
    return f"{engine.get_tensor_mode(name).name} {engine.get_tensor_dtype(name).name} [{text}]"


class ErrorLog:
    """TensorRT's messages: warnings go to Python's log, errors are kept for the next exception.

    By the thread in which they came, so that frames of several streams do not mix theirs; those of
    threads that TensorRT starts are told where the caller's own has none.
    """

    def __init__(self, trt: Any) -> None:
        self._errors: deque[tuple[int, str]] = deque(maxlen=_ERRORS_KEPT)
        self.logger = _make_logger(trt, self._errors)

    def forget(self) -> None:
        """Leave out of `tail` what came in this thread so far."""
        own = get_ident()
        for each in [each for each in self._errors.copy() if each[0] == own]:
            with suppress(ValueError):  # another thread's error has pushed it out
                self._errors.remove(each)

    def forget_all(self) -> None:
        """Leave out of `tail` what came so far in any thread."""
        self._errors.clear()

    def tail(self) -> str:
        """The last errors in one line."""
        kept, own = self._errors.copy(), get_ident()
        found = [text for thread, text in kept if thread == own] or [text for _, text in kept]
        return " | ".join(found[-_ERRORS_TOLD:]) or "TensorRT gave no reason"


@cache
def error_log(trt: Any) -> ErrorLog:
    """The one log of a flavour: TensorRT keeps the first logger of a process and never lets go."""
    return ErrorLog(trt)


def _make_logger(trt: Any, errors: deque[tuple[int, str]]) -> Any:
    severity = trt.ILogger.Severity
    warned: set[str] = set()  # it says the same of every layer

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 asks for this form

        def log(self, level: Any, message: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                errors.append((get_ident(), message.strip()))
            elif level == severity.WARNING and message not in warned:
                warned.add(message)
                log.warning("TensorRT: %s", message.strip())

    return Logger()


def _release(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:3])
