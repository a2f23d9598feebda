"""Engines of TensorRT and of TensorRT for RTX: one backend, frames from the host or in GPU memory.

Frames in GPU memory come from CuPy, PyTorch, Numba, PyCUDA or any other library with DLPack or
`__cuda_array_interface__`; see `device_array` for how results go back to them.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import local
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array, Backend, Outputs
from allfocus.runtime.cudart import Device, Memory, Stream, load_runtime
from allfocus.runtime.device_array import DeviceArray, view
from allfocus.runtime.errors import BackendError, InputError
from allfocus.runtime.lanes import Lanes
from allfocus.runtime.layout import frame_layout, layout
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
from allfocus.runtime.trt_lane import MOST_CONTEXTS, Lane
from allfocus.runtime.trt_runner import Capturing, Runner

log = logging.getLogger("allfocus")


class TrtBackend(Backend):
    """An .engine file on the GPU `Options.device`; its manifest says which flavour runs it.

    `Options.streams` calls run at once, each in a lane of its own; one more waits for a lane. The
    lanes share the engine and its weights, and each takes its own memory to work in when it is
    loaded; see `Lane` for what frames of several sizes take. The calling thread's current CUDA
    device is `Options.device` afterwards.
    """

    name = "tensorrt"  # or "tensorrt-rtx", once the manifest is read

    def _load(self) -> tuple[Spec, Graph]:
        self._last = local()
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
        loaded = LoadedEngine(self.artefact, manifest, trt)
        stack.callback(loaded.close)
        settings = None
        if manifest.flavour == "tensorrt-rtx":
            settings = RtxSettings(loaded, device, cuda_graph=self.options.cuda_graph)
            stack.callback(settings.close)
        self._built_in_graph = settings is not None and settings.cuda_graph
        self._capturing = Capturing(settings is None and self.options.cuda_graph)
        make = partial(_make_runner, loaded, settings, self._capturing)
        # More contexts than one serve the graphs alone.
        most = MOST_CONTEXTS if self.options.cuda_graph else 1
        most = loaded.take_room(self.options.memory, self.options.streams, most)
        lanes = []
        for _ in range(self.options.streams):
            lanes.append(Lane(device, make, most))
            stack.callback(lanes[-1].close)
        if settings is not None:
            stack.callback(settings.save)
        stack.callback(device.use_to_release)  # first of all: it may be another thread's turn
        self._lanes = Lanes(lanes, str(self.artefact))
        self._outputs = loaded.outputs

    @property
    def cuda_graph(self) -> bool:
        """Whether repeated frames of one size are replayed as a CUDA graph."""
        return self._built_in_graph or self._capturing.on

    @property
    def copies(self) -> int:
        """Between host and GPU, in the calling thread's last call."""
        return int(getattr(self._last, "copies", 0))

    @copies.setter
    def copies(self, count: int) -> None:
        self._last.copies = count

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        dtypes = {name: layout(name, self.graph.io).dtype for name in self._outputs}
        with self._turn() as lane:
            runner = lane.prepare({name: array.shape for name, array in inputs.items()})
            for name, array in inputs.items():
                lane.upload(name, array)
            runner.run()
            waiting = {name: lane.download(name, dtype) for name, dtype in dtypes.items()}
            lane.stream.synchronize()
            self.copies = len(inputs) + len(waiting)
            # Copied once more: the next call overwrites the pinned memory.
            return {name: array.copy() for name, array in waiting.items()}

    def infer_device(self, frame: Any) -> Outputs:
        """Deblur a frame in GPU memory, of any size up to the engine's: nothing goes to the host.

        `frame` is uint8 [H, W, 3] in the graph's colour order, or what `frame_layout` tells of the
        graph's face; with or without a leading 1, which the outputs then have too. Its rows may
        have gaps between them. It is padded by reflection and the outputs are cropped
        again. They are `DeviceArray`s with memory of their own, finished when this returns.

        Raises InputError where the frame is on another GPU or has another type or layout, and where
        the graph is not one that takes a single picture and gives its sharp version.
        """
        self.check_open()
        if not self.graph.signature.deblurs:
            raise InputError(
                f"{self.artefact}: frames in GPU memory go to a graph that takes a single picture "
                f"and gives its sharp version; this one: {self.graph.signature}"
            )
        self.check_names({"image": frame})
        with self._turn() as lane:
            given = view(frame, lane.stream)
            sources = frame_planes(self.graph.io, given)
            size = sources[0].size
            padded = self.size_for(size)
            runner = lane.prepare({"image": layout("image", self.graph.io).shape(padded)})
            first = len(frame_layout("image", self.graph.io).axes) - len(given.shape)
            results = {n: self._result(lane, n, size, first) for n in self._outputs}
            for target, source in zip(self._planes(lane, "image", padded), sources, strict=True):
                copy(lane.stream, target, source)
                reflect(lane.stream, target, source.size)
            runner.run()
            for name, result in results.items():
                self._crop(lane, name, padded, result.pointer, size)
            lane.stream.synchronize()
        self._called()
        self.copies = 0
        return Outputs(**results)

    def fetch(self, frame: Any) -> Array:
        """See Backend; raises InputError as `infer_device` does."""
        self.check_open()
        wanted = frame_layout("image", self.graph.io)
        with self._turn() as lane:
            sources = frame_planes(self.graph.io, view(frame, lane.stream))
            size = sources[0].size
            host: Array = np.empty(wanted.shape(size)[1:], wanted.dtype)
            targets = image_planes(self.graph.io, host.ctypes.data, size)
            for target, source in zip(targets, sources, strict=True):
                copy(lane.stream, target, source)
            lane.stream.synchronize()
        return host

    def _close(self) -> None:
        self._lanes.close()
        self._release()

    @contextmanager
    def _turn(self) -> Iterator[Lane]:
        """One call's turn on the GPU. It ends with `synchronize`, here where it ends with an error:
        no queued work may touch a frame or a buffer after it.
        """
        with self._lanes.one() as lane:
            lane.stream.device.use()
            try:
                yield lane
            except BaseException:
                try:
                    lane.stream.synchronize()
                except BackendError as also:  # the first error tells more than what follows from it
                    log.warning("after that, %s", also)
                raise

    def _result(self, lane: Lane, name: str, size: Size, first: int) -> DeviceArray:
        """Memory for an output from its axis `first` on, as callers have it."""
        wanted = frame_layout(name, self.graph.io)
        shape = wanted.shape(size)
        memory = Memory(lane.stream.device, math.prod(shape) * wanted.dtype.itemsize)
        return DeviceArray(memory, shape[first:], wanted.dtype)

    def _crop(self, lane: Lane, name: str, padded: Size, target: int, size: Size) -> None:
        """Queue the copy of an output's first pixels to contiguous memory at `target`."""
        targets = _planes_at(self.graph, name, target, size)
        for whole, part in zip(self._planes(lane, name, padded), targets, strict=True):
            copy(lane.stream, part, whole.part(0, 0, part.size))

    def _planes(self, lane: Lane, name: str, size: Size) -> list[Plane]:
        return _planes_at(self.graph, name, lane.runner.address(name), size)


def _make_runner(
    loaded: LoadedEngine, settings: RtxSettings | None, capturing: Capturing, stream: Stream
) -> Runner:
    context = loaded.create_context(None if settings is None else settings.configure)
    return Runner(loaded, context, stream, capturing)


def _planes_at(graph: Graph, name: str, pointer: int, size: Size) -> list[Plane]:
    if KINDS[name] == "plane":
        return [map_plane(pointer, size)]
    return image_planes(graph.io, pointer, size)
