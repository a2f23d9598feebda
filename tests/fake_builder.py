"""As much of TensorRT as a build uses: it remembers what was set and read, and gives `plan`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx

_SEVERITIES = {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2}


class FakeTrt:
    """The module `tensorrt`. Its parser wants a plugin library for nodes that are not standard."""

    __version__ = "10.3.0"
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    ComputeCapability = SimpleNamespace(__members__={"SM86": 86, "SM89": 89})
    BuilderFlag = SimpleNamespace(TF32="TF32", REQUIRE_USER_ALLOCATION="REQUIRE_USER_ALLOCATION")

    def __init__(self, plan: bytes | None) -> None:
        self.plan = plan
        self.flags = 0
        self.config: Any = None
        self.builder_flags = {"TF32"}  # TensorRT's default
        self.libraries: list[str] = []  # of plugins
        self.parsed: Path | onnx.ModelProto | None = None
        self.ILogger = type("ILogger", (), {"Severity": SimpleNamespace(**_SEVERITIES)})

    def Builder(self, _logger: Any) -> Any:  # noqa: N802
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=self._config,
            build_serialized_network=lambda _network, _config: self.plan,
        )

    def OnnxParser(self, _network: Any, _logger: Any) -> Any:  # noqa: N802
        error = SimpleNamespace(
            node_operator=lambda: "IsotropicConv",
            node_name=lambda: "blur",
            desc=lambda: "Plugin not found",
        )
        return SimpleNamespace(
            parse_from_file=self._parse_from_file,
            parse=self._parse,
            num_errors=1,
            get_error=lambda _index: error,
        )

    def get_plugin_registry(self) -> Any:
        return SimpleNamespace(load_library=self._load_library, all_creators=[])

    def _load_library(self, path: str) -> object:
        self.libraries.append(path)
        return object()

    def _parse_from_file(self, path: str) -> bool:
        self.parsed = Path(path)
        return self.parsed.is_file()

    def _parse(self, data: bytes) -> bool:
        model = self.parsed = onnx.ModelProto.FromString(data)
        assert not model.functions, "older parsers mix up their names"
        return bool(self.libraries) or all(onnx.defs.has(n.op_type) for n in model.graph.node)

    def _network(self, flags: int) -> object:
        self.flags = flags
        return object()

    def _config(self) -> Any:
        self.config = SimpleNamespace(
            clear_flag=self.builder_flags.discard, set_flag=self.builder_flags.add
        )
        return self.config
