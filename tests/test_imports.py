"""Who imports whom: the arrows between the rooms, and what a bare installation can import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("runtime", "train", "export", "kernels", "benchmarks")
CLI = ROOT / "runtime" / "allfocus" / "cli.py"

FORBIDDEN = {  # room -> what its modules never import, at any depth of the code
    "runtime": {"allfocus.train", "allfocus.export", "allfocus.kernels", "allfocus.benchmarks"}
    | {"torch", "onnx", "onnxscript"},
    "train": {"allfocus.export", "allfocus.benchmarks"},
    "export": {"allfocus.benchmarks"},
    "kernels": {"allfocus.train", "allfocus.export", "allfocus.benchmarks"},
    "benchmarks": set(),
}
ALLOWED = {  # a path and its error, and for which GPUs a library is; no more
    "runtime": ("allfocus.kernels.plugin_library", "allfocus.kernels.architectures")
}
OPTIONAL = (  # packages of the extras: absent in a bare installation
    *("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "safetensors", "polygraphy"),
    *("tensorrt", "tensorrt_rtx", "cuda", "pycuda", "matplotlib", "psutil"),
    *("scipy", "skimage"),
)
BARE = f"""
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None

sys.meta_path.insert(0, Absent())
"""


def sources(room: str) -> list[Path]:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    return files


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[:2] == ("runtime", "allfocus"):
        parts = parts[2:]
    return ".".join(("allfocus", *parts)).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Every module that `path` names: import statements, and strings given to import_module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and _names_module(node.value):
            yield str(node.value)


def _names_module(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"allfocus(\.\w+)+", value) is not None


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("room", ROOMS)
def test_the_arrows_between_rooms(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(room)
        if path != CLI  # it names all rooms and imports each when its command runs
        for name in imported(path)
        for forbidden in FORBIDDEN[room]
        if f"{name}.".startswith(f"{forbidden}.")
        and not f"{name}.".startswith(tuple(f"{a}." for a in ALLOWED.get(room, ())))
    ]
    assert not wrong


def test_importing_allfocus_is_quick_and_light() -> None:
    code = """
import sys, time
start = time.perf_counter()
import allfocus
print(time.perf_counter() - start)
heavy = {"cv2", "torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    assert median(float(run(code)) for _ in range(3)) < 0.3


def test_the_public_names_need_no_engine() -> None:
    code = """
import allfocus
for name in allfocus.__all__:
    assert getattr(allfocus, name) is not None
print(len(allfocus.__all__))
"""
    assert int(run(BARE + code)) >= 6


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import allfocus

    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = allfocus.lod  # type: ignore[attr-defined]


def test_loading_without_an_engine_says_what_to_install() -> None:
    code = """
import allfocus
try:
    allfocus.load("didanet")
except allfocus.AllfocusError as error:
    print(type(error).__name__, error)
"""
    said = run(BARE + code)
    assert said.startswith("BackendError")
    assert 'cpu: onnxruntime is not installed: pip install "allfocus[cpu]"' in said


def test_every_module_of_the_runtime_imports_bare() -> None:
    names = [module_of(p) for p in sources("runtime") if p.stem != "__main__"]
    assert "allfocus.runtime.deblurrer" in names
    run(BARE + "".join(f"import {name}\n" for name in names))


def test_every_command_imports_bare() -> None:
    """So that `allfocus export --help` works, and says what to install, where torch is absent."""
    commands = [module_of(path) for room in ROOMS for path in sources(room) if _is_command(path)]
    assert "allfocus.train.train" in commands
    run(BARE + "".join(f"import {name}\n" for name in commands))


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_hides_another_when_run_by_its_path(room: str) -> None:
    """Python puts a script's folder first: a `select.py` beside it would be the whole program's."""
    folders = {p.parent for p in sources(room) if '__name__ == "__main__"' in p.read_text()}
    taken = {*sys.stdlib_module_names, *OPTIONAL, "cv2", "numpy", "tqdm"} - {"__main__"}
    hidden = [p.name for folder in folders for p in folder.glob("*.py") if p.stem in taken]
    assert not hidden


def _is_command(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {"add_arguments", "run"} <= {n.name for n in body if isinstance(n, ast.FunctionDef)}
