"""Engines of TensorRT and of TensorRT for RTX: one backend, frames from the host or in GPU memory.

Frames in GPU memory come from CuPy, PyTorch, Numba, PyCUDA or any other library with DLPack or
`__cuda_array_interface__`; see `device_array` for how results go back to them.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array, Backend, Outputs
from allfocus.runtime.cudart import Device, Memory, PinnedMemory, Stream, load_runtime
from allfocus.runtime.device_array import DeviceArray, view
from allfocus.runtime.errors import BackendError
from allfocus.runtime.layout import layout
from allfocus.runtime.manifest import Manifest, read_manifest
from allfocus.runtime.planes import (
    Plane,
    copy,
    frame_planes,
    image_planes,
    map_plane,
    reflect,
)
from allfocus.runtime.rtx import RtxSettings
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Graph, Size, Spec
from allfocus.runtime.trt_engine import (
    FLAVOURS,
    LoadedEngine,
    check_plugins,
    check_target,
    check_version,
    import_flavour,
)
from allfocus.runtime.trt_runner import Runner


class TrtBackend(Backend):
    """An .engine file on the GPU `Options.device`; its manifest says which flavour runs it.

    Calls from several threads wait for each other. The calling thread's current CUDA device is
    `Options.device` afterwards. `copies` counts the copies between host and GPU of the last call.
    """

    name = "tensorrt"  # or "tensorrt-rtx", once the manifest is read

    def _load(self) -> tuple[Spec, Graph]:
        self.copies = 0
        self._lock = Lock()
        manifest = read_manifest(self.artefact)
        self.name = manifest.flavour
        self.canary = manifest.canary
        # What needs no GPU comes first, so that each of these mistakes is told everywhere.
        trt = import_flavour(manifest.flavour)
        cuda = load_runtime(FLAVOURS[manifest.flavour].extra)
        check_version(self.artefact, manifest, trt)
        check_plugins(self.artefact, manifest)
        device = Device(cuda, self.options.device)
        check_target(self.artefact, manifest, device, trt)
        with ExitStack() as stack:
            self._start(stack, manifest, device, trt)
            # Also where nobody calls close: at the last reference, or at exit. RTX saves then.
            self._release = weakref.finalize(self, stack.pop_all().close)
        return manifest.spec, manifest.graph

    def _start(self, stack: ExitStack, manifest: Manifest, device: Device, trt: Any) -> None:
        """Make everything that lives on the GPU; `stack` gives it back in reverse order."""
        device.use()
        self._stream = Stream(device)
        stack.callback(self._stream.destroy)
        loaded = LoadedEngine(self.artefact, manifest, trt)
        stack.callback(loaded.close)
        settings = None
        if manifest.flavour == "tensorrt-rtx":
            settings = RtxSettings(loaded, device, cuda_graph=self.options.cuda_graph)
            stack.callback(settings.close)
        context = _create_context(loaded, settings)
        self._built_in_graph = settings is not None and settings.cuda_graph
        captures = settings is None and self.options.cuda_graph
        self._runner = Runner(loaded, context, self._stream, captures=captures)
        stack.callback(self._runner.close)
        if settings is not None:
            stack.callback(settings.save)
        self._staging = Staging(device)
        stack.callback(self._staging.free)
        self._outputs = loaded.outputs

    @property
    def cuda_graph(self) -> bool:
        """Whether repeated frames of one size are replayed as a CUDA graph."""
        return self._built_in_graph or self._runner.captures

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with self._turn():
            self._runner.prepare({name: array.shape for name, array in inputs.items()})
            for name, array in inputs.items():
                self._upload(name, array)
            self._runner.run()
            waiting = {name: self._download(name) for name in self._outputs}
            self._stream.synchronize()
            self.copies = len(inputs) + len(waiting)
            # Copied once more: the next call overwrites the pinned memory.
            return {name: array.copy() for name, array in waiting.items()}

    def infer_device(self, frame: Any) -> Outputs:
        """Deblur a frame in GPU memory, of any size: nothing is copied to the host.

        `frame` is uint8 [H, W, 3] in the graph's colour order, or float32 [3, H, W] where the graph
        shows the face "float"; with or without a leading 1, which the outputs then have too. Its
        rows may have gaps between them. It is padded by reflection and the outputs are cropped
        again. They are `DeviceArray`s with memory of their own, finished when this returns.

        Raises InputError where the frame is on another GPU or has another type or layout, and where
        the graph is not one that takes a single picture and gives its sharp version.
        """
        self.check_open()
        self._check_names({"image": frame})
        with self._turn():
            given = view(frame, self._stream)
            sources = frame_planes(self.graph.io, given)
            size = sources[0].size
            padded = self.size_for(size)
            self._runner.prepare({"image": layout("image", self.graph.io).shape(padded)})
            results = {n: self._result(n, size, len(given.shape)) for n in self._outputs}
            for target, source in zip(self._planes("image", padded), sources, strict=True):
                copy(self._stream, target, source)
                reflect(self._stream, target, size)
            self._runner.run()
            for name, result in results.items():
                self._crop(name, padded, result.pointer, size)
            self._stream.synchronize()
            self.calls += 1
            self.copies = 0
        return Outputs(**results)

    def _close(self) -> None:
        with self._lock:
            self._release()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One call's turn on the GPU. It ends with `synchronize`, here where it ends with an error:
        no queued work may touch a frame or a buffer after it.
        """
        with self._lock:
            self.check_open()  # it may have been closed while this call waited
            self._stream.device.use()
            try:
                yield
            except BaseException:
                self._stream.synchronize()
                raise

    def _upload(self, name: str, array: Array) -> None:
        staged = self._staging.array(name, array.shape, array.dtype)
        np.copyto(staged, array)
        self._stream.copy(self._runner.address(name), staged.ctypes.data, staged.nbytes)

    def _download(self, name: str) -> Array:
        dtype = layout(name, self.graph.io).dtype
        staged = self._staging.array(name, self._runner.shape(name), dtype)
        self._stream.copy(staged.ctypes.data, self._runner.address(name), staged.nbytes)
        return staged

    def _result(self, name: str, size: Size, ndim: int) -> DeviceArray:
        wanted = layout(name, self.graph.io)
        shape = wanted.shape(size)
        memory = Memory(self._stream.device, math.prod(shape) * wanted.dtype.itemsize)
        return DeviceArray(memory, shape if ndim == 4 else shape[1:], wanted.dtype)

    def _crop(self, name: str, padded: Size, target: int, size: Size) -> None:
        """Queue the copy of an output's first pixels to contiguous memory at `target`."""
        targets = _planes_at(self.graph, name, target, size)
        for whole, part in zip(self._planes(name, padded), targets, strict=True):
            copy(self._stream, part, whole.part(0, 0, size))

    def _planes(self, name: str, size: Size) -> list[Plane]:
        return _planes_at(self.graph, name, self._runner.address(name), size)


class Staging:
    """Pinned host memory for each tensor, grown when a larger one comes.

    Copies between ordinary host memory and the GPU are slower and hold up the caller.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._kept: dict[str, PinnedMemory] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Memory for the tensor `name`; the next call with this name gives the same."""
        nbytes = math.prod(shape) * dtype.itemsize
        kept = self._kept.get(name)
        if kept is None or kept.nbytes < nbytes:
            if kept is not None:
                self._kept.pop(name).free()
            kept = self._kept[name] = PinnedMemory(self._device, nbytes)
        return kept.array(shape, dtype)

    def free(self) -> None:
        """Give all of it back."""
        for memory in self._kept.values():
            memory.free()
        self._kept.clear()


def _create_context(loaded: LoadedEngine, settings: RtxSettings | None) -> Any:
    create = loaded.engine.create_execution_context
    context = create() if settings is None else create(settings.config)
    if context is None:
        raise BackendError(
            f"{FLAVOURS[loaded.manifest.flavour].title} cannot make room for the engine "
            f"({loaded.log.tail()}): free GPU memory, or export it for smaller frames"
        )
    return context


def _planes_at(graph: Graph, name: str, pointer: int, size: Size) -> list[Plane]:
    if KINDS[name] == "plane":
        return [map_plane(pointer, size)]
    return image_planes(graph.io, pointer, size)
