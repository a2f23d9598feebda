"""OpenVINO: the CPU, in float32, bfloat16, or 8 bits where the file was quantised."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from allfocus.runtime import ov_core
from allfocus.runtime.abilities import lacks
from allfocus.runtime.backend import Array
from allfocus.runtime.contract import read_contract
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.errors import BackendError, UsageError
from allfocus.runtime.lanes import Lanes
from allfocus.runtime.onnx_backend import OnnxBackend
from allfocus.runtime.onnx_file import inlined, metadata
from allfocus.runtime.spec import Graph, Precision, Spec

# For files of each precision, what can be computed in: first what it is by itself.
COMPUTES: dict[Precision, tuple[Precision, ...]] = {
    "fp32": ("fp32", "bf16"),
    "fp16": ("fp32",),  # no CPU is faster in half precision here
    "bf16": ("bf16",),
    "int8": ("int8",),
}
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # what is not in 8 bits is in float32
_UNABLE, _UNKNOWN = "wasn't fully converted", "No conversion rule"  # how it says what it has not


class OpenVinoBackend(OnnxBackend):
    """An ONNX file on the CPU, computed in `Options.precision`: "auto" is as the file is.

    `Options.threads` 0 takes the CPUs that are really available; streams share them out.
    """

    name = "openvino"
    extra = ov_core.EXTRA
    arena = 2.2  # jdrl-unet-lite in float32; bfloat16 takes less than that

    @property
    def precision(self) -> Precision:
        """See Backend."""
        return self._precision

    def _load(self) -> tuple[Spec, Graph]:
        contract = read_contract(self.artefact, metadata(self.artefact))
        self._precision = self._chosen(contract.graph)
        core = ov_core.core()
        try:
            self._model = core.compile_model(self._read(core), "CPU", self._settings())
            count = self.options.streams
            requests = [self._model.create_infer_request() for _ in range(count)]
        except RuntimeError as error:
            raise BackendError(f"{self.artefact}: {self.name}: {_cause(error)}") from error
        self._check_precision()
        self._lanes: Lanes[Any] = Lanes(requests, str(self.artefact))
        return self._agreed(contract, *self._tensors(contract.graph))

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with self._lanes.one() as request:
            try:
                values = request.infer(inputs, share_inputs=True)
            except RuntimeError as error:
                raise self._cannot_run(inputs, _cause(error)) from error
            return {name: np.array(values[name]) for name in self.graph.signature.outputs}

    def release(self) -> None:
        """See Backend. Where a run is at work on another thread, all stays as it is."""
        self.check_open()
        with suppress(RuntimeError):
            self._model.release_memory()

    def length(self, name: str) -> int:
        """See OnnxBackend."""
        length = self._model.input(name).get_partial_shape()[1]
        return 0 if length.is_dynamic else int(length.get_length())

    def _close(self) -> None:
        self._lanes.close()
        del self._model, self._lanes

    def _chosen(self, graph: Graph) -> Precision:
        """What to compute in. Raises UsageError for what the file is not for."""
        possible = COMPUTES.get(graph.precision, ())
        asked = self.options.precision
        if not possible or asked not in ("auto", *possible):
            raise UsageError(
                f"{self.artefact}: {self.name} computes a file of {graph.precision} in "
                f"{' or '.join(possible) or 'no way'}, not in {asked}: leave the precision at "
                "'auto', or give another file"
            )
        chosen = possible[0] if asked == "auto" else asked
        if chosen == "bf16" and lacks("bf16"):
            raise BackendError(no_bf16())
        return chosen

    def _read(self, core: Any) -> Any:
        """The file as OpenVINO's model. It knows no functions of a file's own."""
        plain = inlined(self.artefact)
        try:
            return core.read_model(str(self.artefact) if plain is None else plain)
        except RuntimeError as error:
            if _UNABLE in str(error):
                raise
            raise self._damaged(_cause(error)) from error

    def _settings(self) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            "INFERENCE_NUM_THREADS": self.options.threads or available_cpus(),
            "NUM_STREAMS": self.options.streams,
            # Threads that are tied to cores wait for them where a quota, or another process that
            # tied its own to the same ones, has taken these away; the system moves free ones.
            "ENABLE_CPU_PINNING": False,
        }

    def _check_precision(self) -> None:
        """It computes in float32 where it cannot do as it was told, and does not say so."""
        found = self._model.get_property("INFERENCE_PRECISION_HINT").to_string()
        if self._precision == "bf16" and found != "bf16":
            raise BackendError(no_bf16())

    def _tensors(self, graph: Graph) -> tuple[dict[str, str], dict[str, str]]:
        """The types of inputs and outputs by name. One tensor may have several names."""
        known = {*graph.signature.inputs, *graph.signature.outputs}
        inputs, outputs = (
            {_name(port.names, known): port.element_type.to_dtype().name for port in ports}
            for ports in (self._model.inputs, self._model.outputs)
        )
        return inputs, outputs


def no_bf16() -> str:
    """Why bf16 is refused here, and what runs instead."""
    return (
        "this CPU has no AVX-512 BF16 and no AMX, without which bfloat16 is not computed: take "
        'precision="fp32", or "int8" (a model without a file of it: `allfocus export --model NAME '
        "--precision int8 --for openvino --onnx-only`)"
    )


def _name(names: set[str], known: set[str]) -> str:
    return min(names & known or names or {"a tensor without a name"})


def _cause(error: Exception) -> str:
    """What an error of OpenVINO says, without the places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines.sort(key=lambda line: _UNKNOWN not in line)  # what else fails follows from that
    noise = ("Exception from", "Check '", "FrontEnd API failed")
    told = [line for line in lines if line and not line.startswith(noise)]
    return "; ".join(told[:3]) or type(error).__name__
