"""OpenVINO as a backend: what it computes beside ONNX Runtime, and what it refuses."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import damage
import numpy as np
import pytest
from test_imports import run
from test_ort import rewritten

import allfocus
from allfocus.runtime import abilities
from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.backend import Options
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.errors import ArtefactError, BackendError, InputError, UsageError
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.ov import OpenVinoBackend
from allfocus.runtime.spec import GRAPH_KEY, MEMORY_KEY, SPEC_KEY, Graph, Shapes, Size

if TYPE_CHECKING:
    from conftest import Exported

pytest.importorskip("openvino", reason="needs openvino")
pytest.importorskip("onnxruntime", reason="compares with onnxruntime")
pytestmark = pytest.mark.openvino

needs_bf16 = pytest.mark.skipif(abilities.lacks("bf16"), reason="this CPU does not compute bf16")
OLD = ("Old CPU", ("avx2", "fma"))


def labelled(tiny: Exported, path: Path, graph: Graph) -> Path:
    return rewritten(tiny.float, path, **{GRAPH_KEY: graph.to_json()})


def test_signals_are_survived_whatever_is_closed_first(tiny: Exported) -> None:
    """Each closed Core of OpenVINO could leave a thread without the stack its signals come on."""
    code = f"""
import os, signal
from pathlib import Path
from allfocus.runtime.backend import Options
from allfocus.runtime.ov import OpenVinoBackend

signal.signal(signal.SIGINT, lambda *_: print("a signal", flush=True))
backends = [OpenVinoBackend(Path({str(tiny.float)!r}), Options(threads=1)) for _ in range(3)]
for backend in backends:
    backend.close()
    os.kill(os.getpid(), signal.SIGINT)
print("goes on")
"""
    assert run(code).splitlines() == ["a signal", "a signal", "a signal", "goes on"]


@pytest.mark.parametrize("face", ["float", "frame"])
def test_it_computes_what_onnxruntime_computes(tiny: Exported, face: str) -> None:
    random = np.random.default_rng(0)
    path, image = tiny.float, random.random((1, 3, 32, 48), dtype=np.float32)
    if face == "frame":
        path, image = tiny.frame, random.integers(0, 256, (1, 32, 48, 3), dtype=np.uint8)
    with OpenVinoBackend(path, Options(threads=1)) as ours, OrtBackend(path, Options()) as other:
        assert (ours.spec, ours.graph, ours.precision) == (other.spec, other.graph, "fp32")
        assert ours.canary == other.canary
        found, expected = ours.infer(image), other.infer(image)
        assert found.sharp.dtype == expected.sharp.dtype
        assert found.sharp.flags.owndata
        off = np.abs(np.float32(found.sharp) - np.float32(expected.sharp))
        assert off.max() <= (1 if face == "frame" else 1e-5)  # one level of 255, where .5 is near
        np.testing.assert_allclose(found.defocus, expected.defocus, atol=1e-5)


@pytest.mark.parametrize("name", ["sftnet-lite-restore", "jdrl-reblur"])
def test_packaged_models_with_functions_and_vectors(name: str) -> None:
    path = packaged_onnx(name)
    with OpenVinoBackend(path, Options()) as ours, OrtBackend(path, Options()) as other:
        random = np.random.default_rng(0)
        blank = ours.blank(Size(64, 48))
        given = {n: random.random(a.shape, dtype=np.float32) for n, a in blank.items()}
        assert {n: a.shape for n, a in given.items()} == {
            n: a.shape for n, a in other.blank(Size(64, 48)).items()
        }
        expected = other.run(given)
        for output, found in ours.run(given).items():
            np.testing.assert_allclose(found, expected[output], atol=1e-4)


@needs_bf16
def test_bf16_is_what_it_computes_in_where_it_is_asked_to(tiny: Exported) -> None:
    image = np.random.default_rng(0).random((1, 3, 64, 96), dtype=np.float32)
    with (
        OpenVinoBackend(tiny.float, Options(precision="bf16")) as half,
        OpenVinoBackend(tiny.float, Options(precision="fp32")) as full,
    ):
        assert (half.precision, half.graph.precision, full.precision) == ("bf16", "fp32", "fp32")
        off = np.abs(half.infer(image).sharp - full.infer(image).sharp)
    assert 1e-5 < off.max() < 0.1  # eight bits of mantissa


def test_a_static_graph_of_8_bits_by_its_label(tiny: Exported, tmp_path: Path) -> None:
    shapes = Shapes.static(Size(48, 32))
    graph = Graph(io="float", precision="int8", color="rgb", shapes=shapes)
    path = labelled(tiny, tmp_path / "x.onnx", graph)
    with OpenVinoBackend(path, Options()) as backend:
        assert backend.precision == "int8"
        backend.release()
        assert backend.run(backend.blank(Size(48, 32)))["sharp"].shape == (1, 3, 32, 48)
        with pytest.raises(InputError, match="takes at most 48x32"):
            backend.run(backend.blank(Size(52, 32)))
    for asked in ("fp32", "bf16"):
        with pytest.raises(UsageError, match=rf"a file of int8 in int8, not in {asked}"):
            OpenVinoBackend(path, Options(precision=asked))


def test_a_cpu_without_bf16_says_what_it_can(
    tiny: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abilities, "describe_cpu", lambda: OLD)
    with pytest.raises(BackendError, match=r"no AVX-512 BF16 and no AMX.*fp32.*or \"int8\""):
        OpenVinoBackend(tiny.float, Options(precision="bf16"))
    with OpenVinoBackend(tiny.float, Options()) as backend:
        assert backend.precision == "fp32"


def test_missing_openvino_names_the_extra(tiny: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r'pip install "allfocus\[openvino\]"'):
        OpenVinoBackend(tiny.float, Options())
    with pytest.raises(BackendError, match=r'openvino.*pip install "allfocus\[openvino\]"'):
        allfocus.load(tiny.float, backend="openvino")
    with allfocus.load(tiny.float) as deblur:
        assert deblur.backend == "cpu"


@pytest.mark.parametrize("kind", damage.KINDS)
def test_a_damaged_file(tiny: Exported, tmp_path: Path, kind: str) -> None:
    path = damage.damaged(tiny.float, tmp_path, kind)
    with pytest.raises(ArtefactError, match=r"damaged\.onnx: .*allfocus export"):
        OpenVinoBackend(path, Options())


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"none\.onnx: no such ONNX file"):
        OpenVinoBackend(tmp_path / "none.onnx", Options())
    path = tmp_path / "didanet-lite.onnx"
    path.write_bytes(packaged_onnx("didanet-lite").read_bytes())
    with pytest.raises(ArtefactError, match=r"didanet-lite\.onnx: damaged.*safetensors"):
        OpenVinoBackend(path, Options())


def test_files_that_are_not_what_they_say(tiny: Exported, tmp_path: Path) -> None:
    plain = rewritten(tiny.float, tmp_path / "plain.onnx", **{SPEC_KEY: None})
    with pytest.raises(ArtefactError, match="without allfocus' metadata"):
        OpenVinoBackend(plain, Options())
    graph = Graph(io="frame", precision="fp32", color="bgr", shapes=None)
    with pytest.raises(ArtefactError, match=r"mixed\.onnx: .*do not fit.*'frame'"):
        OpenVinoBackend(labelled(tiny, tmp_path / "mixed.onnx", graph), Options())


def test_an_operator_it_does_not_have(tiny: Exported, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="changes ONNX files")
    model = onnx.load(str(tiny.float))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Unheard", "of.it"
    model.opset_import.append(onnx.helper.make_opsetid("of.it", 1))
    path = tmp_path / "odd.onnx"
    onnx.save(model, str(path))
    with pytest.raises(BackendError, match=r"odd\.onnx: openvino: .*of\.it\.Unheard"):
        OpenVinoBackend(path, Options())


@pytest.mark.parametrize("threads", [0, 1])
def test_threads_are_those_asked_for_and_not_tied_to_cores(tiny: Exported, threads: int) -> None:
    with OpenVinoBackend(tiny.float, Options(threads=threads)) as backend:
        assert backend._model.get_property("INFERENCE_NUM_THREADS") == threads or available_cpus()
        assert backend._model.get_property("ENABLE_CPU_PINNING") is False


def test_calls_at_once_on_several_streams(tiny: Exported) -> None:
    random = np.random.default_rng(0)
    images = [random.random((1, 3, 8 * n, 40), dtype=np.float32) for n in (3, 5, 7, 4)] * 3
    with OpenVinoBackend(tiny.float, Options(threads=2, streams=2)) as backend:
        alone = [backend.infer(image).sharp for image in images]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda image: backend.infer(image).sharp, images))
        assert backend.calls == 2 * len(images)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    with pytest.raises(ArtefactError, match="closed"):
        backend.infer(images[0])
    with pytest.raises(ArtefactError, match="closed"):
        backend.release()


@pytest.mark.parametrize("amount", ["1.2 KB", "nan", "inf", "-1", "0", ""])
def test_memory_that_is_no_amount_is_the_files_fault(
    tiny: Exported, tmp_path: Path, amount: str
) -> None:
    path = rewritten(tiny.float, tmp_path / "x.onnx", **{MEMORY_KEY: amount})
    with pytest.raises(ArtefactError, match=r"x\.onnx: allfocus\.memory: expected bytes .*again"):
        OpenVinoBackend(path, Options(threads=1))


def test_memory_is_told_and_given_back(tiny: Exported, tmp_path: Path) -> None:
    path = rewritten(tiny.float, tmp_path / "x.onnx", **{MEMORY_KEY: "100"})
    with OpenVinoBackend(path, Options(threads=1)) as backend:
        assert backend.bytes_per_pixel == backend.arena * 100
        before = backend.run(backend.blank(Size(64, 64)))
        backend.release()
        after = backend.run(backend.blank(Size(64, 64)))
    np.testing.assert_array_equal(before["sharp"], after["sharp"])
