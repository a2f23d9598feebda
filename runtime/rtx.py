"""What TensorRT for RTX adds at run time: kernels compiled on this machine, kept between runs.

An RTX engine holds no finished kernels: they are compiled when a context is made and, for engines
of many sizes, when a size comes for the first time. The runtime cache keeps them in a file.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.cudart import Device
from allfocus.runtime.errors import AllfocusError, BackendError
from allfocus.runtime.files import publish
from allfocus.runtime.trt_engine import LoadedEngine

log = logging.getLogger("allfocus")


class RtxSettings:
    """The runtime configurations of an engine's contexts; it must outlive the contexts.

    All contexts share one runtime cache, and each has a configuration of its own.

    CUDA graphs are left to RTX's own whole-graph capture: NVIDIA advises against capturing from
    outside, for kernels are exchanged while an engine of many sizes runs, and RTX knows when the
    final ones are in place. It captures again by itself where a size or an address changes, and
    goes on without a graph where an engine cannot be captured.
    """

    def __init__(self, loaded: LoadedEngine, device: Device, *, cuda_graph: bool) -> None:
        self._loaded = loaded
        self._device = device
        self._wanted = cuda_graph
        self.path = cache_path(loaded.manifest.engine_sha256, device.target)
        first = self._config()
        graphs = loaded.trt.CudaGraphStrategy
        self.cuda_graph = bool(first.cuda_graph_strategy == graphs.WHOLE_GRAPH_CAPTURE)
        self._configs = [first]
        self._cache = first.create_runtime_cache()
        self._stored = self._read()
        if self._stored and not self._cache.deserialize(self._stored):
            # Made by another driver or GPU: RTX compiles again, and `save` replaces the file.
            log.info("%s: does not fit this machine any more; it is made anew", self.path)

    def configure(self) -> Any:
        """The configuration of one more context."""
        config = self._config()
        config.set_runtime_cache(self._cache)
        self._configs.append(config)
        return config

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
        """Drop the configurations; the contexts made with them must be gone."""
        del self._cache
        self._configs.clear()

    def _config(self) -> Any:
        config = self._loaded.engine.create_runtime_config()
        if config is None:
            raise BackendError(f"TensorRT for RTX cannot be configured: {self._loaded.log.tail()}")
        # No frame waits for a compiler: a general kernel serves a new size until its own is ready.
        kernels = self._loaded.trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = kernels.LAZY
        graphs = self._loaded.trt.CudaGraphStrategy
        strategy = graphs.WHOLE_GRAPH_CAPTURE if self._wanted else graphs.DISABLED
        config.cuda_graph_strategy = strategy
        return config

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
