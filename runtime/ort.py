"""ONNX Runtime: any machine's CPU, and NVIDIA GPUs through its CUDA provider."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from allfocus.runtime.backend import Array, Backend, Outputs
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.spec import GRAPH_KEY, SPEC_KEY, Graph, Spec

_LOG_FATAL = 4  # ONNX Runtime's severity: its errors are raised too, and told once
_INPUT_TYPES = {"frame": "tensor(uint8)", "float": "tensor(float)"}


class OrtBackend(Backend):
    """An ONNX file on the CPU. `Options.threads` 0 takes the CPUs that are really available."""

    name = "cpu"
    extra = "cpu"  # of pip install "allfocus[...]"

    def providers(self) -> list[Any]:
        """Execution providers, as InferenceSession takes them; the first one must be usable."""
        return ["CPUExecutionProvider"]

    def _load(self) -> tuple[Spec, Graph]:
        if not self.artefact.is_file():
            raise ArtefactError(
                f"{self.artefact}: no such ONNX file; make it with `allfocus export`"
            )
        ort = self._import()
        try:
            self._session = ort.InferenceSession(
                str(self.artefact),
                self._session_options(ort),
                providers=self.providers(),
                enable_fallback=False,
            )
        except self._unreadable as error:
            raise ArtefactError(
                f"{self.artefact}: damaged, incomplete, or not an ONNX file ({_cause(error)}); "
                "export it again with `allfocus export --force`"
            ) from error
        except (*self._errors, RuntimeError) as error:
            raise BackendError(f"{self.artefact}: {self.name}: {_cause(error)}") from error
        self._check_providers()
        return self._read_contract()

    def _infer(self, image: Array) -> Outputs:
        try:
            values = self._session.run(self._outputs, {"image": image})
        except (*self._errors, RuntimeError) as error:
            raise BackendError(
                f"{self.artefact}: {self.name}: cannot run on {list(image.shape)} "
                f"({_cause(error)}); if memory is short, use a smaller frame"
            ) from error
        return Outputs(values[0], values[1] if len(values) > 1 else None)

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
        metadata = self._session.get_modelmeta().custom_metadata_map
        if SPEC_KEY not in metadata or GRAPH_KEY not in metadata:
            raise ArtefactError(
                f"{self.artefact}: exported without allfocus' metadata, so its sizes and layout "
                "are not known: export it with `allfocus export`"
            )
        try:
            spec = Spec.from_json(metadata[SPEC_KEY])
            graph = Graph.from_json(metadata[GRAPH_KEY])
        except ArtefactError as error:
            raise ArtefactError(f"{self.artefact}: {error}") from None
        self._check_face(graph)
        return spec, graph

    def _check_face(self, graph: Graph) -> None:
        inputs = {i.name: i.type for i in self._session.get_inputs()}
        names = {o.name for o in self._session.get_outputs()}
        if inputs != {"image": _INPUT_TYPES[graph.io]} or "sharp" not in names:
            raise ArtefactError(
                f"{self.artefact}: inputs {inputs} and outputs {sorted(names)} do not fit its "
                f"metadata (face {graph.io!r}); export it again with `allfocus export --force`"
            )
        self._outputs = [name for name in ("sharp", "defocus") if name in names]


class OrtCudaBackend(OrtBackend):
    """An ONNX file on an NVIDIA GPU. Frames come from the host and return to it."""

    name = "cuda"
    extra = "gpu"

    def providers(self) -> list[Any]:
        """The CUDA provider on `Options.device`; the CPU for what it cannot run."""
        return [
            ("CUDAExecutionProvider", {"device_id": self.options.device}),
            "CPUExecutionProvider",
        ]


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _cause(error: Exception) -> str:
    """The first line of an error of ONNX Runtime, without its numbers for programs."""
    lines = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)).split("\n")
    return lines[0].strip() or type(error).__name__
