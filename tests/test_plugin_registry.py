"""The plugin library in the registry of TensorRT itself, which needs no GPU for that.

In a process of its own: a registry keeps what it loads. No graph is parsed with plugins: TensorRT
for RTX would end the process.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from plugin_host import emulated_plugins

from allfocus.kernels.plugin_library import find_plugins

SCRIPT = """
import importlib, json, sys
import numpy as np

trt = importlib.import_module(sys.argv[1])
errors = []

class Logger(trt.ILogger):
    def log(self, severity, message):
        if severity == trt.ILogger.Severity.ERROR and "allfocus" in message:
            errors.append(message)

logger = Logger()
runtime = trt.Runtime(logger)
registry = trt.get_plugin_registry()
assert registry.load_library(sys.argv[2]) is not None
field, types = trt.PluginField, trt.PluginFieldType
slope = field("slope", np.array([0.5], np.float32), types.FLOAT32)
version, wrong = (field("version", np.array([v], np.int32), types.INT32) for v in (1, 2))
phases = trt.TensorRTPhase

def names(name, phase, *fields):
    creator = registry.get_creator(name, "1", "allfocus")
    plugin = creator.create_plugin("node", trt.PluginFieldCollection(list(fields)), phase)
    if plugin is None:
        return None
    core = plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
    return [core.plugin_name, core.plugin_version, core.plugin_namespace]

print(json.dumps({
    "creators": sorted(c.name for c in registry.all_creators if c.plugin_namespace == "allfocus"),
    "build": [names("IsotropicConv", phases.BUILD), names("SftModulate", phases.BUILD, slope)],
    "run": [names("IsotropicConv", phases.RUNTIME, version),
            names("SftModulate", phases.RUNTIME, version, slope)],
    "refused": [names("IsotropicConv", phases.RUNTIME, wrong),
                names("SftModulate", phases.BUILD, wrong, slope)],
    "errors": errors,
}))
"""


def library(kind: str) -> Path:
    if kind == "emulated":
        return emulated_plugins()
    built = find_plugins()
    if built is None:
        pytest.skip("kernels/lib/liballfocus_plugins.so was not built with CMake")
    return built


def loader(flavour: str, path: Path) -> str:
    """The flavour's name; skips where it is not installed or the library is for another."""
    if find_spec(flavour) is None:
        pytest.skip(f"{flavour} is not installed")
    release = __import__(flavour).__version__
    # TensorRT for RTX 1.7 has the interfaces of TensorRT 11.
    wanted = 11 if flavour == "tensorrt_rtx" else int(release.partition(".")[0])
    made_for = ctypes.CDLL(str(path)).allfocus_plugins_tensorrt()
    if made_for != wanted:
        pytest.skip(f"{path.name} was built for TensorRT {made_for}; {flavour} {release} is here")
    return flavour


@pytest.mark.parametrize("kind", ["emulated", "built"])
@pytest.mark.parametrize(
    "flavour", ["tensorrt", pytest.param("tensorrt_rtx", marks=pytest.mark.rtx)]
)
def test_tensorrt_loads_the_library_and_makes_plugins(flavour: str, kind: str) -> None:
    path = library(kind)
    command = [sys.executable, "-c", SCRIPT, loader(flavour, path), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    names = ["IsotropicConv", "SftModulate"]
    assert said["creators"] == names
    assert said["build"] == said["run"] == [[name, "1", "allfocus"] for name in names]
    assert said["refused"] == [None, None]
    assert [e.partition(": ")[0] for e in said["errors"]] == [f"allfocus {name}" for name in names]
    assert all("fields of version 2; expected version 1" in error for error in said["errors"])


def test_the_built_library_exports_nothing_but_its_entries() -> None:
    """So that it meets no other copy of the kernels or of CUDA's runtime in a process."""
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", str(library("built"))],
        capture_output=True,
        text=True,
        check=True,
    )
    entries = {"getCreators", "setLoggerFinder", "allfocus_plugins_tensorrt"}
    assert {line.split()[-1] for line in symbols.stdout.splitlines()} == entries | {
        "allfocus_version",
        "allfocus_architectures",
    }
