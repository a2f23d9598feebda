"""What one call at a time has to itself on the GPU, so that several calls run at once."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.cudart import Device, PinnedMemory, Stream
from allfocus.runtime.errors import BackendError
from allfocus.runtime.trt_runner import Runner, Shapes

log = logging.getLogger("allfocus")

MOST_CONTEXTS = 4  # of a lane
_REMEMBERED = 8  # shapes that gave up their context

Make = Callable[[Stream], Runner]


class Lane:
    """A stream, execution contexts with their buffers, and pinned memory. Not safe for threads.

    Each input shape has a context of its own, up to `most`, and with it a CUDA graph of its own, so
    that sizes which take turns are all replayed. But a context takes GPU memory: all that the
    engine works in, at its largest size, and buffers for the shape. So there is one to begin with,
    and a shape that is new takes over the one that was not used for the longest; only when it comes
    back after it lost its own so, another is made. What comes once, such as the golden frame, takes
    no more memory, and where there is none for another context, those there are serve all shapes.
    """

    def __init__(self, device: Device, make: Make, most: int = MOST_CONTEXTS) -> None:
        self.stream = Stream(device)
        self._make = make
        self._most = most
        self._staging = Staging(device)
        try:
            self.runner = make(self.stream)  # the one that was prepared last
        except BaseException:
            self.stream.destroy()
            raise
        self._runners = [self.runner]  # in the order of their last use
        self._lost: deque[Shapes] = deque(maxlen=_REMEMBERED)

    def prepare(self, shapes: Shapes) -> Runner:
        """`runner`, made ready for inputs of `shapes`; the stream must be idle."""
        runner = self._for(shapes)
        runner.prepare(shapes)
        self._runners.remove(runner)
        self._runners.append(runner)
        self.runner = runner
        return runner

    def upload(self, name: str, array: Array) -> None:
        """Queue the copy of a host array into the tensor `name`."""
        staged = self._staging.array(name, array.shape, array.dtype)
        np.copyto(staged, array)
        self.stream.copy(self.runner.address(name), staged.ctypes.data, staged.nbytes)

    def download(self, name: str, dtype: np.dtype[Any]) -> Array:
        """Queue the copy of the tensor `name` to the host; the next call writes over it."""
        staged = self._staging.array(name, self.runner.shape(name), dtype)
        self.stream.copy(staged.ctypes.data, self.runner.address(name), staged.nbytes)
        return staged

    def close(self) -> None:
        """Give everything back; the stream must be idle."""
        self._staging.free()
        for runner in self._runners:
            runner.close()
        self._runners.clear()
        del self.runner
        self.stream.destroy()

    def _for(self, shapes: Shapes) -> Runner:
        for runner in self._runners:
            if runner.shapes == shapes:
                return runner
        if shapes in self._lost and len(self._runners) < self._most:
            added = self._another(shapes)
            if added is not None:
                return added
        oldest = self._runners[0]
        if oldest.shapes is not None:
            self._lost.append(oldest.shapes)
        return oldest

    def _another(self, shapes: Shapes) -> Runner | None:
        """A further context, ready for `shapes`; None where there is no memory for it."""
        runner = None
        try:
            runner = self._make(self.stream)
            runner.prepare(shapes)
        except BackendError as error:
            if runner is not None:
                runner.close()
            self._most = len(self._runners)  # not tried again with every frame
            log.info("frame sizes share %d contexts: no room for another: %s", self._most, error)
            return None
        self._runners.append(runner)
        return runner


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
