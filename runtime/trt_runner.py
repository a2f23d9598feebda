"""One execution context at work: its stream, its buffers in GPU memory, and its CUDA graph."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from allfocus.runtime.cudart import CudaGraph, Device, Memory, Stream
from allfocus.runtime.errors import BackendError
from allfocus.runtime.layout import layout
from allfocus.runtime.trt_engine import LoadedEngine

log = logging.getLogger("allfocus")

Shapes = Mapping[str, tuple[int, ...]]  # of the inputs, by name


@dataclass
class Capturing:
    """Whether frames are replayed as CUDA graphs: `on` until a capture fails, for all contexts."""

    on: bool


class Runner:
    """Runs a loaded engine on `stream`. Not safe for threads: its owner sees to that.

    A CUDA graph holds a size and the addresses of all buffers, and must not be launched after its
    context was changed, so there is one at a time, for the size that is in use: its first frame
    runs plainly (TensorRT prepares itself for a size then, which cannot be captured), its second
    is captured, and from there on the graph is launched. Frames of one runner whose sizes alternate
    run without graphs: see `Lane`, which has a runner for each size.
    """

    def __init__(
        self, loaded: LoadedEngine, context: Any, stream: Stream, capturing: Capturing
    ) -> None:
        self._capturing = capturing
        self._loaded = loaded
        self._context = context
        self._stream = stream
        self._buffers: dict[str, Memory] = {}
        self._shapes: Shapes | None = None
        self._ran = False  # at these shapes
        self._graph: CudaGraph | None = None

    @property
    def shapes(self) -> Shapes | None:
        """What it is ready for; None before the first `prepare`, and after one that failed."""
        return self._shapes

    def prepare(self, shapes: Shapes) -> None:
        """Make ready for inputs of `shapes`; free of cost where the last ones had them too."""
        if shapes == self._shapes:
            return
        self._forget_shapes()
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                reason = self._loaded.log.tail()
                raise BackendError(f"TensorRT refuses an input {name!r} of {shape}: {reason}")
        for name in (*shapes, *self._loaded.outputs):
            self._bind(name)
        self._shapes = dict(shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the tensor `name` since the last `prepare`."""
        shape: tuple[int, ...] = tuple(self._context.get_tensor_shape(name))
        if min(shape) < 0:
            raise BackendError(f"TensorRT left the shape of {name!r} open: {shape}")
        return shape

    def address(self, name: str) -> int:
        """Where the tensor `name` lies in GPU memory until the next `prepare`."""
        return self._buffers[name].pointer

    def run(self) -> None:
        """Queue one inference from the buffers of the inputs into those of the outputs."""
        if self._capturing.on and self._ran and self._graph is None:
            self._capture()
        if self._graph is not None:
            self._graph.launch()
        else:
            self._enqueue()
        self._ran = True

    def close(self) -> None:
        """Free the graph, the context and the buffers, in this order; the stream must be idle."""
        self._forget_shapes()
        del self._context
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers.clear()

    def _forget_shapes(self) -> None:
        self._shapes = None
        self._ran = False
        if self._graph is not None:
            self._graph.destroy()
            self._graph = None

    def _bind(self, name: str) -> None:
        element = layout(name, self._loaded.manifest.graph.io).dtype.itemsize
        nbytes = math.prod(self.shape(name)) * element
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < nbytes:
            if buffer is not None:
                self._buffers.pop(name).free()  # first: both at once may not fit
            buffer = self._buffers[name] = Memory(self._device, nbytes)
        if not self._context.set_tensor_address(name, buffer.pointer):
            raise BackendError(f"TensorRT refuses a buffer for {name!r}: {self._loaded.log.tail()}")

    @property
    def _device(self) -> Device:
        return self._stream.device

    def _enqueue(self) -> None:
        self._loaded.log.forget()
        if not self._context.execute_async_v3(self._stream.handle):
            raise BackendError(f"TensorRT cannot run the engine: {self._loaded.log.tail()}")

    def _capture(self) -> None:
        """Record an inference; where that fails, say so once and go on without graphs."""
        try:
            self._graph = self._stream.capture(self._enqueue)
        except BackendError as error:
            self._capturing.on = False
            log.warning(
                "CUDA graph not captured (%s): every frame's kernels are launched one by one", error
            )
