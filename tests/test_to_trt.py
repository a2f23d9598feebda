"""`allfocus export` as a whole: real engines, the cache, and everything that can go wrong."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import save_file

from allfocus.export import builder, flavour, progress, to_onnx, to_trt, verify
from allfocus.runtime.artefacts import find_engines
from allfocus.runtime.errors import ArtefactError, ParityError
from allfocus.runtime.manifest import read_manifest, sha256
from allfocus.runtime.spec import GRAPH_KEY, SPEC_KEY, Graph, Shapes, Size, Spec
from allfocus.train import checkpoint

TINY = "didanet-tiny"
SCRIPT = Path(__file__).parent.parent / "export" / "to_trt.py"
ARGUMENTS = ["--model", TINY, "--weights", "random:0", "--size", "62x48", "--json"]
RTX = ["--backend", "tensorrt-rtx"]
STEM = f"{TINY}-fp16-64x48"

Run = Callable[..., tuple[int, Any, str]]  # arguments -> exit code, JSON object or None, stderr

rtx = pytest.mark.rtx


@pytest.fixture
def needs_rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command: exit code, the JSON object (or None) and stderr."""

    def call(*arguments: str) -> tuple[int, Any, str]:
        code = to_trt.main(list(arguments))
        output = capsys.readouterr()
        return code, json.loads(output.out) if output.out else None, output.err

    return call


@pytest.fixture(scope="module")
def traced() -> bytes:
    """The ONNX file of ARGUMENTS, with its weights."""
    net, spec = checkpoint.random(TINY, 0)
    shapes = Shapes.static(Size(64, 48))
    graph = Graph(io="frame", precision="fp16", color="rgb", shapes=shapes)
    return to_onnx.export(net.eval(), spec, graph).SerializeToString()


@pytest.fixture
def traced_once(traced: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare torch's exporter where a test is about what comes after it."""
    model = onnx.ModelProto.FromString(traced)
    monkeypatch.setattr(to_onnx, "export", lambda *_: model)


def visible(folder: Path) -> list[str]:
    """All files under `folder`, hidden ones too."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@rtx
@pytest.mark.usefixtures("needs_rtx")
def test_from_weights_to_an_engine_and_again_from_the_cache(run: Run, own_cache: Path) -> None:
    code, first, said = run(*ARGUMENTS, *RTX)
    assert code == 0
    assert first["cached"] is False
    assert set(first["seconds"]) == {
        *("key", "cache", "weights", "export", "parity", "memory", "build")
    }
    assert "--size 62x48: rounded up to 64x48" in said
    assert all(step in said for step in ("export ", "parity ", "build "))
    assert (first["backend"], first["targets"]) == ("tensorrt-rtx", ["sm86", "sm89", "sm120"])
    assert (first["precision"], first["size"], first["io"]) == ("fp16", "64x48", "frame")
    assert first["parity"]["psnr_db"] >= 55
    assert first["parity"]["tolerance"] == {"max_abs": 2 / 255, "psnr_db": 55.0}

    engine, onnx_file = Path(first["engine"]), Path(first["onnx"])
    assert visible(own_cache) == [f"{STEM}{s}" for s in (".engine", ".json", ".onnx")]
    assert engine.parent.parent == own_cache
    assert (engine.stat().st_size, onnx_file.stat().st_size) == (
        first["engine_bytes"],
        first["onnx_bytes"],
    )

    manifest = read_manifest(engine)
    _, spec = checkpoint.random(TINY, 0)
    assert asdict(manifest.spec) == asdict(spec)
    assert (manifest.spec.parameters, manifest.spec.macs_per_pixel) == (15_260, 12_730.5)
    assert manifest.onnx_sha256 == sha256(onnx_file)
    said_by_onnx = {p.key: p.value for p in onnx.load(str(onnx_file)).metadata_props}
    assert Spec.from_json(said_by_onnx[SPEC_KEY]) == manifest.spec
    assert Graph.from_json(said_by_onnx[GRAPH_KEY]) == manifest.graph

    stamp = engine.stat().st_mtime_ns
    code, second, _ = run(*ARGUMENTS, *RTX)
    assert (code, second["cached"], engine.stat().st_mtime_ns) == (0, True, stamp)
    for name in set(first) - {"cached", "seconds"}:
        assert second[name] == first[name], name


@rtx
@pytest.mark.usefixtures("needs_rtx")
def test_an_engine_for_a_decoders_frames(run: Run, own_cache: Path) -> None:
    code, made, _ = run(*ARGUMENTS, *RTX, "--io", "nv12", "--matrix", "bt601")
    assert code == 0
    assert (made["io"], made["matrix"], made["range"]) == ("nv12", "bt601", "limited")
    assert made["parity"]["psnr_db"] >= 55
    manifest = read_manifest(Path(made["engine"]))
    assert manifest.graph.face == "nv12 bt601 limited"
    assert visible(own_cache)[0] == f"{TINY}-nv12-fp16-64x48.engine"
    with pytest.raises(ArtefactError, match="no engine"):
        find_engines(TINY, "tensorrt-rtx")
    assert find_engines(TINY, "tensorrt-rtx", io="nv12") == [Path(made["engine"])]


@rtx
@pytest.mark.usefixtures("needs_rtx", "traced_once")
def test_force_damage_and_another_target_make_it_again(run: Run, tmp_path: Path) -> None:
    arguments = [*ARGUMENTS, *RTX, "--out", str(tmp_path)]
    made = [run(*arguments)[1]["cached"], run(*arguments)[1]["cached"]]
    made.append(run(*arguments, "--force")[1]["cached"])
    (tmp_path / f"{STEM}.engine").write_bytes(b"cut")
    made.append(run(*arguments)[1]["cached"])
    code, other, _ = run(*arguments, "--target", "sm75")
    made.append(other["cached"])
    assert made == [False, True, False, False, False]
    assert (code, other["targets"]) == (0, ["sm75"])
    assert read_manifest(tmp_path / f"{STEM}.engine").targets == ("sm75",)
    assert visible(tmp_path) == [f"{STEM}{s}" for s in (".engine", ".json", ".onnx")]


@rtx
@pytest.mark.usefixtures("needs_rtx", "traced_once")
def test_a_cached_answer_by_path_is_quick_and_light(run: Run) -> None:
    run(*ARGUMENTS, *RTX)
    code = f"""
import runpy, sys, time
start = time.perf_counter()
sys.argv = {["to_trt.py", *ARGUMENTS, *RTX]!r}
try:
    runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
finally:
    heavy = {{"torch", "onnx", "onnxruntime", "tensorrt_rtx"}} & set(sys.modules)
    assert not heavy, heavy
    print(time.perf_counter() - start, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cached"] is True
    assert float(done.stderr.splitlines()[-1]) < 3


def test_onnx_alone(run: Run, tmp_path: Path) -> None:
    arguments = ["--onnx-only", "--precision", "fp32", "--io", "float", "--out", str(tmp_path)]
    code, report, _ = run(*ARGUMENTS, *arguments)
    assert code == 0
    assert visible(tmp_path) == [f"{TINY}-fp32-64x48.onnx"]
    assert report["onnx"] == str(tmp_path / f"{TINY}-fp32-64x48.onnx")
    assert (report["engine"], report["manifest"], report["backend"]) == (None, None, None)
    assert report["parity"]["max_abs"] <= report["parity"]["tolerance"]["max_abs"] == 1e-4


@pytest.mark.usefixtures("traced_once")
def test_what_a_killed_export_left_is_removed(run: Run, tmp_path: Path) -> None:
    words = (*ARGUMENTS, "--onnx-only", "--out", str(tmp_path))
    assert run(*words)[0] == 0
    (made,) = tmp_path.glob("*.onnx")
    draft = tmp_path / f".{made.stem}-allfocus-5eccccb2.onnx"
    draft.touch()
    other = tmp_path / ".another-allfocus-5eccccb2.onnx"
    other.touch()
    assert run(*words)[0] == 0
    assert not draft.exists()
    assert other.exists()


@pytest.mark.usefixtures("traced_once")
def test_without_json_it_prints_a_short_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = [a for a in ARGUMENTS if a != "--json"]
    assert to_trt.main([*arguments, "--onnx-only", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"{TINY} fp16 64x48, face frame rgb" in printed
    assert "psnr_db" in printed


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "says"),
    [
        (["--model", "didanet-tinny"], 2, "UnknownModelError", "did you mean 'didanet-tiny'"),
        (["--target", "sm90"], 2, "UsageError", "sm75, sm80, sm86"),
        (["--weights", "nowhere.pth"], 1, "CheckpointError", "nowhere.pth: no such file"),
        (["--min", "8x8"], 2, "UsageError", "--min, --opt and --max"),
        (["--out", "x.onnx"], 2, "UsageError", "--out x.onnx: expected a folder"),
    ],
)
def test_wrong_use_is_one_json_object_and_a_line(
    run: Run,
    own_cache: Path,
    arguments: list[str],
    code: int,
    kind: str,
    says: str,
) -> None:
    found, report, said = run(*ARGUMENTS[:-1], *arguments, "--json")
    assert (found, report["kind"]) == (code, kind)
    assert says in report["error"]
    assert says in said
    assert not visible(own_cache)


def test_a_missing_flavour_names_both_extras(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavour, "installed_version", lambda _: None)
    code, report, _ = run(*ARGUMENTS)
    assert (code, report["kind"]) == (1, "BackendError")
    assert "allfocus[trt-rtx]" in report["error"]
    assert "allfocus[trt]" in report["error"]


class Intruder:
    """A pickle of it makes a folder when it is loaded by plain `pickle`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.mkdir, (self.folder,)


def other_model(path: Path) -> None:
    net, _ = checkpoint.random("didanet-released", 0)
    checkpoint.save(path, "didanet-released", net, weights="", license="")


def with_nan(path: Path) -> None:
    state = checkpoint.random(TINY, 0)[0].state_dict()
    save_file({**state, "restorer.tail.bias": torch.full((3,), float("nan"))}, path)


def without_keys(path: Path) -> None:
    state = checkpoint.random(TINY, 0)[0].state_dict()
    save_file(dict(list(state.items())[2:]), path)


def cut_short(path: Path) -> None:
    save_file(checkpoint.random(TINY, 0)[0].state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])


def code_in_a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Intruder(path.parent / "ran"), protocol=2))


@pytest.mark.parametrize(
    ("write", "name", "says"),
    [
        (other_model, "w.safetensors", "use `--model didanet-released`"),
        (with_nan, "w.safetensors", "NaN or infinity in restorer.tail.bias"),
        (without_keys, "w.safetensors", "2 missing"),
        (cut_short, "w.safetensors", "not a whole safetensors file"),
        (code_in_a_pickle, "w.pth", "would run code"),
    ],
)
def test_weights_that_cannot_be_used_leave_nothing(
    run: Run,
    tmp_path: Path,
    own_cache: Path,
    write: Callable[[Path], None],
    name: str,
    says: str,
) -> None:
    write(tmp_path / name)
    code, report, _ = run(*ARGUMENTS, "--onnx-only", "--weights", str(tmp_path / name))
    assert (code, report["kind"]) == (1, "CheckpointError")
    assert says in report["error"]
    assert not visible(own_cache)
    assert not (tmp_path / "ran").exists()


def test_a_place_that_cannot_be_written_is_told_before_any_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_onnx, "export", lambda *_: pytest.fail("work was done"))
    (tmp_path / "file").write_bytes(b"")
    code, report, _ = run(*ARGUMENTS, "--onnx-only", "--out", str(tmp_path / "file" / "out"))
    assert code == 1
    assert "cannot write to" in report["error"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_without_write_permission(run: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    code, report, _ = run(*ARGUMENTS, "--onnx-only", "--out", str(tmp_path / "out"))
    tmp_path.chmod(0o700)
    assert code == 1
    assert "Permission denied" in report["error"]


@rtx
@pytest.mark.usefixtures("needs_rtx", "traced_once")
def test_a_disk_that_fills_up_leaves_the_former_export(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*ARGUMENTS, *RTX, "--out", str(tmp_path)]
    run(*arguments)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.suffix == ".engine":
            real(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    code, report, _ = run(*arguments, "--force")
    assert code == 1
    assert "No space left on device" in report["error"]
    assert "free some space" in report["error"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("traced_once")
def test_a_graph_that_computes_something_else_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> None:
        raise ParityError("too far: max_abs 0.3")

    monkeypatch.setattr(verify, "compare", wrong)
    code, report, _ = run(*ARGUMENTS, "--onnx-only", "--out", str(tmp_path))
    assert (code, report["kind"]) == (1, "ParityError")
    assert not visible(tmp_path)


@rtx
@pytest.mark.usefixtures("needs_rtx", "traced_once")
def test_ctrl_c_during_a_build_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = progress.cancellable

    def interrupted(work: Any, cancel: Any) -> Any:
        def slow() -> Any:
            signal.raise_signal(signal.SIGINT)
            assert cancel.wait(timeout=20)
            return work()

        return real(slow, cancel)

    monkeypatch.setattr(builder, "cancellable", interrupted)
    code, _, said = run(*ARGUMENTS, *RTX, "--out", str(tmp_path))
    assert code == 130
    assert "interrupted" in said
    assert not visible(tmp_path)


@rtx
@pytest.mark.usefixtures("needs_rtx")
def test_two_at_once_build_once(own_cache: Path) -> None:
    command = [sys.executable, str(SCRIPT), *ARGUMENTS, *RTX]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    reports = [json.loads(out) for out, _ in outputs]
    assert sorted(report["cached"] for report in reports) == [False, True]
    assert reports[0]["engine"] == reports[1]["engine"]
    assert "waiting for another export" in outputs[reports[1]["cached"]][1]
    assert visible(own_cache) == [f"{STEM}{s}" for s in (".engine", ".json", ".onnx")]


@pytest.mark.parametrize("name", ["to_trt", "to_onnx", "packaged"])
def test_where_allfocus_is_not_installed_the_script_says_how(name: str, tmp_path: Path) -> None:
    script = SCRIPT.with_name(f"{name}.py")
    command = [sys.executable, "-I", "-S", str(script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 1
    assert "install the project first: pip install" in done.stderr
    assert "Traceback" not in done.stderr
