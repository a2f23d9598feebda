"""What TensorRT for RTX adds at run time: kernels compiled on this machine, kept between runs.

An RTX engine holds no finished kernels: they are compiled when a context is made and, for engines
of many sizes, when a size comes for the first time. The runtime cache keeps them in a file.
"""

from __future__ import annotations

import logging
from pathlib import Path

from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.cudart import Device
from allfocus.runtime.errors import AllfocusError, BackendError
from allfocus.runtime.files import publish
from allfocus.runtime.trt_engine import LoadedEngine

log = logging.getLogger("allfocus")


class RtxSettings:
    """The runtime configuration of one context; it must outlive the context.

    CUDA graphs are left to RTX's own whole-graph capture: NVIDIA advises against capturing from
    outside, for kernels are exchanged while an engine of many sizes runs, and RTX knows when the
    final ones are in place. It captures again by itself where a size or an address changes, and
    goes on without a graph where an engine cannot be captured.
    """

    def __init__(self, loaded: LoadedEngine, device: Device, *, cuda_graph: bool) -> None:
        trt = loaded.trt
        self._device = device
        self.path = cache_path(loaded.manifest.engine_sha256, device.target)
        config = loaded.engine.create_runtime_config()
        if config is None:
            raise BackendError(f"TensorRT for RTX cannot be configured: {loaded.log.tail()}")
        # No frame waits for a compiler: a general kernel serves a new size until its own is ready.
        kernels = trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = kernels.LAZY
        graphs = trt.CudaGraphStrategy
        config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE if cuda_graph else graphs.DISABLED
        self.cuda_graph = bool(config.cuda_graph_strategy == graphs.WHOLE_GRAPH_CAPTURE)
        self.config = config
        self._cache = config.create_runtime_cache()
        self._stored = self._read()
        if self._stored and not self._cache.deserialize(self._stored):
            # Made by another driver or GPU: RTX compiles again, and `save` replaces the file.
            log.info("%s: does not fit this machine any more; it is made anew", self.path)
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write the kernels compiled so far, if there are new ones; a failure is only logged.

        The file is replaced as a whole, so a reader never sees a part of it. Of two processes that
        write one after the other the last one's kernels stay, and the other compiles them again.
        """
        try:
            self._device.use()  # RTX notes down the GPU of the current CUDA context
            data = self._serialize()
            if data and data != self._stored:
                with publish(self.path) as temporary:
                    temporary.write_bytes(data)
                self._stored = data
        except AllfocusError as error:
            log.warning("compiled kernels are not kept for the next run: %s", error)

    def close(self) -> None:
        """Drop the configuration; the context made with it must be gone."""
        del self._cache
        del self.config

    def _serialize(self) -> bytes:
        memory = self._cache.serialize()
        return b"" if memory is None else bytes(memory)

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            log.warning("%s: cannot be read (%s): kernels are compiled again", self.path, error)
            return b""


def cache_path(engine_sha256: str, target: str) -> Path:
    """Where the kernels that one engine needs on one kind of GPU are kept."""
    return cache_dir() / "rtx-kernels" / f"{engine_sha256[:32]}-{target}.bin"
