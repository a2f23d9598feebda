"""ONNX Runtime: any machine's CPU, and NVIDIA GPUs through its CUDA provider."""

from __future__ import annotations

import logging
import re
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any

from allfocus.runtime.backend import Array
from allfocus.runtime.contract import read_contract
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.onnx_backend import OnnxBackend
from allfocus.runtime.spec import Graph, Size, Spec

log = logging.getLogger("allfocus")

_LOG_FATAL = 4  # ONNX Runtime's severity: its errors are raised too, and told once
_SHRINK = "memory.enable_memory_arena_shrinkage"  # a run's option: which give back afterwards
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OrtBackend(OnnxBackend):
    """An ONNX file on the CPU. `Options.threads` 0 takes the CPUs that are really available."""

    name = "cpu"
    extra = "cpu"
    arena = 1.5  # it grows in large pieces

    def providers(self) -> list[Any]:
        """Execution providers, as InferenceSession takes them; the first one must be usable."""
        return ["CPUExecutionProvider"]

    def _load(self) -> tuple[Spec, Graph]:
        if not self.artefact.is_file():
            raise ArtefactError(
                f"{self.artefact}: no such ONNX file; make it with `allfocus export`"
            )
        ort = self._ort = self._import()
        try:
            self._session = ort.InferenceSession(
                str(self.artefact),
                self._session_options(ort),
                providers=self.providers(),
                enable_fallback=False,
            )
        except self._unreadable as error:
            raise self._damaged(_cause(error)) from error
        except (*self._errors, RuntimeError) as error:
            raise BackendError(f"{self.artefact}: {self.name}: {_cause(error)}") from error
        self._check_providers()
        return self._read_contract()

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return self._outputs_of(inputs, None)

    def release(self) -> None:
        """See Backend. ONNX Runtime does so at the end of a run only: here one on a few pixels.

        A graph of one size keeps what it has: giving it back would cost a whole frame's work.
        """
        self.check_open()
        shapes = self.graph.shapes
        if shapes is not None and shapes.is_static:
            return
        options = self._ort.RunOptions()
        options.add_run_config_entry(_SHRINK, self._arenas())
        size = self.size_for(Size(1, 1)) if shapes is None else shapes.min
        self._outputs_of(self.blank(size), options)

    def _outputs_of(self, inputs: dict[str, Array], options: Any) -> dict[str, Array]:
        """One run, with options of ONNX Runtime's; raises BackendError."""
        names = self.graph.signature.outputs
        try:
            values = self._session.run(list(names), inputs, options)
        except (*self._errors, RuntimeError) as error:
            raise self._cannot_run(inputs, _cause(error)) from error
        return dict(zip(names, values, strict=True))

    def _arenas(self) -> str:
        """Those that `release` is about, in ONNX Runtime's words."""
        return "cpu:0"

    def length(self, name: str) -> int:
        """See OnnxBackend."""
        lengths = {each.name: each.shape[1] for each in self._session.get_inputs()}
        return lengths[name] if isinstance(lengths[name], int) else 0

    def _close(self) -> None:
        del self._session

    def _import(self) -> Any:
        try:
            ort = import_module("onnxruntime")
            state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
        except ImportError as error:
            raise BackendError(
                f'onnxruntime cannot be imported ({error}): pip install "allfocus[{self.extra}]"'
            ) from error
        kinds = {n: k for n, k in vars(state).items() if _is_error(k)}
        unreadable = ("InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NoModel", "Fail")
        self._errors = tuple(kinds.values())
        self._unreadable = tuple(kinds[name] for name in unreadable if name in kinds)
        return ort

    def _session_options(self, ort: Any) -> Any:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = self.options.threads or available_cpus()
        options.log_severity_level = _LOG_FATAL
        # A pattern of one size does not serve the next, and holds twice as much; no run is slower.
        options.enable_mem_pattern = False
        # Threads that spin for work use up a quota of CPU time, and what other processes would do
        # meanwhile. Measured on two busy cores, didanet-lite in turns, asleep against
        # spinning (medians): at 256x192 350 ms against 363, for 317 ms of CPU time against 409; at
        # 128x96 128 ms against 125, for 90 ms of CPU time against 142.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options

    def _check_providers(self) -> None:
        first = self.providers()[0]
        wanted = first if isinstance(first, str) else first[0]
        if wanted not in self._session.get_providers():
            # ONNX Runtime goes on without a provider that fails to start, many times slower.
            raise BackendError(
                f"onnxruntime could not start its {wanted}: see that the CUDA and cuDNN versions "
                f'fit (pip install "allfocus[{self.extra}]"), or use backend="cpu"'
            )

    def _read_contract(self) -> tuple[Spec, Graph]:
        found = read_contract(self.artefact, self._session.get_modelmeta().custom_metadata_map)
        inputs, outputs = (
            {each.name: _TYPES.get(each.type, each.type) for each in tensors}
            for tensors in (self._session.get_inputs(), self._session.get_outputs())
        )
        return self._agreed(found, inputs, outputs)


class OrtCudaBackend(OrtBackend):
    """An ONNX file on an NVIDIA GPU. Frames come from the host and return to it."""

    name = "cuda"
    extra = "gpu"

    def providers(self) -> list[Any]:
        """The CUDA provider on `Options.device`; the CPU for what it cannot run.

        Without TF32, which rounds what float32 convolutions take to ten bits.
        """
        return [
            ("CUDAExecutionProvider", {"device_id": self.options.device, "use_tf32": "0"}),
            "CPUExecutionProvider",
        ]

    def _import(self) -> Any:
        """Where CUDA and cuDNN come from wheels, nothing finds them before they are loaded once."""
        ort = super()._import()
        preload = getattr(ort, "preload_dlls", None)  # from 1.21 on
        if preload is not None:
            with redirect_stdout(StringIO()) as said:  # stdout is the command's own
                preload(directory="")  # of the environment, then of the system
            log.debug("onnxruntime.preload_dlls: %s", said.getvalue().strip() or "nothing to say")
        return ort

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        outputs = super()._run(inputs)
        self.copies = len(inputs) + len(outputs)  # the same in every run, whichever thread asks
        return outputs

    def _arenas(self) -> str:
        return f"cpu:0;gpu:{self.options.device}"


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _cause(error: Exception) -> str:
    """The first line of an error of ONNX Runtime, without its numbers for programs."""
    lines = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)).split("\n")
    return lines[0].strip() or type(error).__name__
