"""ONNX Runtime as a backend: its contract with the file, and files that are damaged."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import damage
import numpy as np
import pytest

from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.backend import Options
from allfocus.runtime.child import output_of
from allfocus.runtime.errors import ArtefactError, BackendError, InputError
from allfocus.runtime.memory import resident
from allfocus.runtime.ort import OrtBackend, OrtCudaBackend
from allfocus.runtime.spec import GRAPH_KEY, SPEC_KEY, Graph, Shapes, Size

if TYPE_CHECKING:
    from conftest import Exported

pytest.importorskip("onnxruntime", reason="needs onnxruntime")


def rewritten(source: Path, target: Path, **metadata: str | None) -> Path:
    """A copy of an ONNX file with metadata set, or removed where the value is None."""
    onnx = pytest.importorskip("onnx", reason="changes ONNX files")
    model = onnx.load(str(source))
    kept = {p.key: p.value for p in model.metadata_props} | metadata
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {k: v for k, v in kept.items() if v is not None})
    onnx.save(model, str(target))
    return target


def test_spec_and_graph_come_from_the_file(tiny: Exported) -> None:
    with OrtBackend(tiny.float, Options(threads=1)) as backend:
        assert backend.spec == tiny.spec
        assert backend.graph == Graph(io="float", precision="fp32", color="rgb", shapes=None)


_TAKEN_AND_GIVEN_BACK = """
import sys
from pathlib import Path
from allfocus.runtime.backend import Options
from allfocus.runtime.memory import resident
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import Size

backend = OrtBackend(Path(sys.argv[1]), Options(threads=1))
backend.run(backend.blank(Size(64, 64)))
for _ in range(2):  # it runs as before afterwards
    before = resident() or 0
    backend.run(backend.blank(Size(512, 512)))
    most = resident() or 0
    backend.release()
    print(most - before, most - (resident() or 0))
"""


def test_what_runs_have_taken_can_be_given_back() -> None:
    """In a process of its own: what others have left behind would be used first."""
    if resident() is None:
        pytest.skip("this system does not tell a process's memory")
    model = packaged_onnx("didanet-lite-restore")
    told = output_of(["-c", _TAKEN_AND_GIVEN_BACK, str(model)], "measuring").split()
    for taken, given_back in ((told[0], told[1]), (told[2], told[3])):
        assert int(taken) > 30 * 2**20
        assert int(given_back) > 30 * 2**20


def test_after_the_end_nothing_can_be_given_back(tiny: Exported) -> None:
    backend = OrtBackend(tiny.float, Options(threads=1))
    backend.close()
    with pytest.raises(ArtefactError, match="closed"):
        backend.release()


def test_it_computes_what_pytorch_computes(tiny: Exported) -> None:
    import torch

    image = np.random.default_rng(0).random((1, 3, 32, 48), dtype=np.float32)
    with torch.inference_mode():
        sharp, defocus = tiny.net(torch.from_numpy(image))
    with OrtBackend(tiny.float, Options(threads=1)) as backend:
        outputs = backend.infer(image)
        assert backend.calls == 1
    np.testing.assert_allclose(outputs.sharp, sharp.numpy(), atol=1e-5)
    np.testing.assert_allclose(outputs.defocus, defocus.relu().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [
        ((1, 3, 32, 47), np.float32, "multiples of 4"),
        ((1, 3, 32, 48), np.float64, "float64"),
        ((1, 32, 48, 3), np.float32, "got shape"),
        ((2, 3, 32, 48), np.float32, "got shape"),
        ((3, 32, 48), np.float32, "got shape"),
    ],
)
def test_other_inputs_are_refused(
    tiny: Exported, shape: tuple[int, ...], dtype: type, says: str
) -> None:
    with (
        OrtBackend(tiny.float, Options(threads=1)) as backend,
        pytest.raises(InputError, match=says),
    ):
        backend.infer(np.zeros(shape, dtype))


def test_sizes_of_a_graph_with_limits(tiny: Exported, tmp_path: Path) -> None:
    shapes = Shapes(Size(16, 8), Size(32, 32), Size(64, 48))
    graph = Graph(io="float", precision="fp32", color="rgb", shapes=shapes)
    path = rewritten(tiny.float, tmp_path / "x.onnx", **{GRAPH_KEY: graph.to_json()})
    with OrtBackend(path, Options(threads=1)) as backend:
        assert backend.size_for(Size(1, 1)) == Size(16, 8)
        assert backend.size_for(Size(33, 41)) == Size(36, 44)
        assert backend.size_for(Size(64, 48)) == Size(64, 48)
        for large in (Size(65, 48), Size(64, 49)):
            with pytest.raises(InputError, match=r"at most 64x48|takes at most.*64x48"):
                backend.size_for(large)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"no such ONNX file.*allfocus export"):
        OrtBackend(tmp_path / "none.onnx", Options())


@pytest.mark.parametrize("kind", damage.KINDS)
def test_a_damaged_file(tiny: Exported, tmp_path: Path, kind: str) -> None:
    path = damage.damaged(tiny.float, tmp_path, kind)
    with pytest.raises(ArtefactError, match=r"damaged\.onnx: .*allfocus export") as error:
        OrtBackend(path, Options())
    assert "[ONNXRuntimeError]" not in str(error.value)


@pytest.mark.parametrize("kind", ["missing", "half"])
def test_weights_in_a_second_file_belong_to_it(
    tiny: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    onnx = pytest.importorskip("onnx", reason="changes ONNX files")
    path, weights = tmp_path / "two.onnx", tmp_path / "two.weights"
    model = onnx.load(str(tiny.float))
    outside = {"all_tensors_to_one_file": True, "location": weights.name, "size_threshold": 1024}
    onnx.save(model, str(path), save_as_external_data=True, **outside)
    with OrtBackend(path, Options()) as backend:
        assert backend.spec == tiny.spec
    half = weights.read_bytes()[: weights.stat().st_size // 2]
    weights.unlink()
    if kind == "half":
        weights.write_bytes(half)
    with pytest.raises(ArtefactError, match=r"two\.onnx: damaged, incomplete.*[Ee]xternal"):
        OrtBackend(path, Options())
    assert capfd.readouterr().err == ""  # ONNX Runtime says nothing beside the error


@pytest.mark.parametrize("key", [SPEC_KEY, GRAPH_KEY])
def test_a_file_without_metadata(tiny: Exported, tmp_path: Path, key: str) -> None:
    path = rewritten(tiny.float, tmp_path / "plain.onnx", **{key: None})
    with pytest.raises(ArtefactError, match=r"plain\.onnx: .*without allfocus' metadata.*export"):
        OrtBackend(path, Options())


def test_metadata_of_another_version(tiny: Exported, tmp_path: Path) -> None:
    path = rewritten(tiny.float, tmp_path / "old.onnx", **{SPEC_KEY: '{"name": "didanet"}'})
    with pytest.raises(ArtefactError, match=r"old\.onnx: Spec: missing keys"):
        OrtBackend(path, Options())


def test_metadata_of_another_face(tiny: Exported, tmp_path: Path) -> None:
    graph = Graph(io="frame", precision="fp32", color="bgr", shapes=None)
    path = rewritten(tiny.float, tmp_path / "mixed.onnx", **{GRAPH_KEY: graph.to_json()})
    with pytest.raises(ArtefactError, match=r"mixed\.onnx: .*do not fit.*'frame'"):
        OrtBackend(path, Options())


def test_missing_onnxruntime_names_the_extra(
    tiny: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r'pip install "allfocus\[cpu\]"'):
        OrtBackend(tiny.float, Options())
    with pytest.raises(BackendError, match=r'pip install "allfocus\[gpu\]"'):
        OrtCudaBackend(tiny.float, Options())


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_threads_are_those_asked_for_or_all_there_are(tiny: Exported, threads: int) -> None:
    with OrtBackend(tiny.float, Options(threads=threads)) as backend:
        used = backend._session.get_session_options().intra_op_num_threads
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else used
    assert used == threads or (threads == 0 and 1 <= used <= expected)


def test_a_provider_that_does_not_start_is_told(
    tiny: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime itself goes on with the CPU then, without a word of it to the program."""
    import onnxruntime

    asked: list[Any] = []

    def quiet(path: str, options: Any, providers: list[Any], enable_fallback: bool) -> Any:
        asked.extend([Path(path), options.log_severity_level, providers, enable_fallback])
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", quiet)
    with pytest.raises(BackendError, match=r"could not start its CUDAExecutionProvider.*cpu"):
        OrtCudaBackend(tiny.float, Options(device=1))
    providers = [
        ("CUDAExecutionProvider", {"device_id": 1, "use_tf32": "0"}),
        "CPUExecutionProvider",
    ]
    assert asked == [tiny.float, 4, providers, False]


def test_cuda_is_looked_for_among_the_packages_and_stdout_stays_clean(
    tiny: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wheels of CUDA lie where no loader looks, and ONNX Runtime prints what it misses."""
    import onnxruntime

    looked: list[str] = []

    def preload(directory: str) -> None:
        looked.append(directory)
        print("Failed to load libcudnn.so.9")

    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    with pytest.raises(BackendError, match="could not start its CUDAExecutionProvider"):
        OrtCudaBackend(tiny.float, Options())
    assert looked == [""]
    monkeypatch.delattr(onnxruntime, "preload_dlls")  # before 1.21
    with pytest.raises(BackendError, match="could not start its CUDAExecutionProvider"):
        OrtCudaBackend(tiny.float, Options())
    assert capsys.readouterr().out == ""


@pytest.mark.gpu
def test_cuda_computes_what_the_cpu_computes(tiny: Exported) -> None:
    from allfocus.runtime.probe import candidate

    found = candidate("cuda")
    if not found.usable:
        pytest.skip(found.reason)
    image = np.random.default_rng(0).random((1, 3, 64, 96), dtype=np.float32)
    with OrtBackend(tiny.float, Options()) as cpu, OrtCudaBackend(tiny.float, Options()) as cuda:
        one, other = cpu.infer(image), cuda.infer(image)
    np.testing.assert_allclose(one.sharp, other.sharp, atol=1e-4)
    np.testing.assert_allclose(one.defocus, other.defocus, atol=1e-4)
