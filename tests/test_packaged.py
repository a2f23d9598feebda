"""The package's files: ONNX files whose weights lie in the safetensors file beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

import allfocus
from allfocus.export import calibration, packaged, to_onnx
from allfocus.export.packaged import Stored, read_header, refer
from allfocus.export.quality import Quality
from allfocus.runtime.backend import Options
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.errors import ArtefactError, CheckpointError
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import LOSS_KEY
from allfocus.train import checkpoint
from allfocus.train.models import build
from allfocus.train.models.base import Deblurrer

TINY = "didanet-tiny"
DATA = Path(allfocus.__file__).parent / "data"


def written(net: Deblurrer, path: Path) -> Path:
    checkpoint.save(path, TINY, net, weights="random", license="none needed")
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files, made from weights that are gone since."""
    folder = tmp_path_factory.mktemp("pair")
    weights = written(checkpoint.random(TINY, 2)[0], folder / "trained.safetensors")
    out = folder / "data"
    arguments = ["--model", TINY, "--weights", str(weights), "--out", str(out)]
    assert packaged.main(arguments) == 0
    weights.unlink()
    return out


def test_the_onnx_file_holds_no_weights(pair: Path) -> None:
    names = [f"{TINY}-estimate.onnx", f"{TINY}-restore.onnx", f"{TINY}.onnx", f"{TINY}.safetensors"]
    assert sorted(p.name for p in pair.iterdir()) == names
    model = onnx.load(str(pair / f"{TINY}.onnx"), load_external_data=False)
    outside = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    inside = [t for t in model.graph.initializer if t not in outside]
    assert {t.name for t in outside} == {f"{name}.float16" for name in build(TINY).state_dict()}
    assert sum(np.prod(t.dims) for t in inside) <= 16


def test_it_computes_what_the_checkpoint_does(pair: Path) -> None:
    net, spec = checkpoint.load(TINY, pair / f"{TINY}.safetensors")
    image = np.random.default_rng(0).random((1, 3, 40, 72), dtype=np.float32)
    with torch.inference_mode():
        sharp, _ = net.eval()(torch.from_numpy(image))
    with OrtBackend(pair / f"{TINY}.onnx", Options(threads=1)) as backend:
        assert (backend.spec, backend.graph) == (spec, packaged.graph_of(TINY))
        np.testing.assert_allclose(backend.infer(image).sharp, sharp.numpy(), atol=1e-5)


def test_both_phases_compute_what_the_whole_does_and_know_their_memory(pair: Path) -> None:
    image = np.random.default_rng(0).random((1, 3, 40, 72), dtype=np.float32)
    stems = (TINY, f"{TINY}-estimate", f"{TINY}-restore")
    whole, first, second = (OrtBackend(pair / f"{s}.onnx", Options(threads=1)) for s in stems)
    with whole, first, second:
        plane = first.run({"image": image})["defocus"]
        sharp = second.run({"image": image, "defocus": plane})["sharp"]
        np.testing.assert_allclose(sharp, whole.infer(image).sharp, atol=1e-6)
        assert {b.spec.weights_sha256 for b in (whole, first, second)} == {
            whole.spec.weights_sha256
        }
        for backend in (whole, first, second):
            assert backend.bytes_per_pixel is not None
            assert 8 <= backend.bytes_per_pixel <= 4000


def test_a_phase_may_leave_weights_out_but_not_have_others(source: tuple[bytes, Path]) -> None:
    model, path = onnx.ModelProto.FromString(source[0]), source[1]
    stored, data = read_header(path), path.read_bytes()
    stored["spare"] = Stored((2,), 0, 4)
    refer(model, stored, data, path.name, uses_all=False)
    del stored["restorer.blocks.0.conv1.weight"]
    model = onnx.ModelProto.FromString(source[0])
    with pytest.raises(ArtefactError, match=r"blocks\.0"):
        refer(model, stored, data, path.name, uses_all=False)


def test_without_the_weights_beside_it_it_does_not_load(pair: Path, tmp_path: Path) -> None:
    shutil.copy(pair / f"{TINY}.onnx", tmp_path)
    with pytest.raises(Exception, match=TINY):
        OrtBackend(tmp_path / f"{TINY}.onnx", Options(threads=1))


def test_zero_and_equal_weights_that_the_exporter_drops(tmp_path: Path) -> None:
    net = build(TINY)  # a new net: zero biases
    with torch.no_grad():
        net.get_parameter("restorer.blocks.0.conv2.bias").fill_(0.5)
        net.get_parameter("restorer.blocks.1.conv2.bias").fill_(0.5)
    weights = written(net, tmp_path / f"{TINY}.safetensors")
    parity = packaged.write_files(TINY, weights, tmp_path)  # in place: nothing to copy
    assert set(parity) == {(phase, "fp32", "") for phase in ("whole", "estimate", "restore")}
    assert max(figures["max_abs"] for figures in parity.values()) <= 1e-4


def test_files_in_eight_bits_refer_to_the_same_weights(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibrated once, for both engines, and measured on one scene only, which is quick."""
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(DATA / "chelsea.png", photos)
    monkeypatch.setattr(Quality, "speed", lambda *_: None)
    monkeypatch.setattr(calibration, "COUNT", 2)
    init = Quality.__init__
    monkeypatch.setattr(Quality, "__init__", lambda s, m, k, _: init(s, m, k, 1))
    weights = shutil.copy(pair / f"{TINY}.safetensors", tmp_path)
    out = tmp_path / "out"
    made = packaged.write_files(TINY, Path(weights), out, photos)
    assert {kind[1:] for kind in made} == {("fp32", ""), ("int8", ""), ("int8", "openvino")}
    assert (out / f"{TINY}-ranges.json").is_file()
    image = np.random.default_rng(0).random((1, 3, 40, 72), dtype=np.float32)
    sharp = {}
    for ending in ("", "-int8", "-int8-openvino"):
        path = out / f"{TINY}{ending}.onnx"
        assert path.stat().st_size < 200_000
        with OrtBackend(path, Options(threads=1)) as backend:
            assert backend.graph.precision == ("int8" if ending else "fp32")
            sharp[ending] = backend.infer(image).sharp
    for ending in ("-int8", "-int8-openvino"):
        assert 1e-6 < float(np.abs(sharp[ending] - sharp[""]).mean()) < 0.02
        label = {
            each.key: each.value
            for each in onnx.load(
                str(out / f"{TINY}{ending}.onnx"), load_external_data=False
            ).metadata_props
        }[LOSS_KEY]
        assert json.loads(label)["ranges"].startswith("mse of ")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    """The bytes of an ONNX file with weights inside, and the safetensors file of the same."""
    path = tmp_path_factory.mktemp("source") / "w.safetensors"
    net, spec = checkpoint.load(TINY, written(checkpoint.random(TINY, 2)[0], path))
    return to_onnx.export(net.eval(), spec, packaged.graph_of(TINY)).SerializeToString(), path


@pytest.mark.parametrize("damage", ["moved", "changed", "renamed", "unused"])
def test_weights_that_are_not_the_graphs_are_refused(
    source: tuple[bytes, Path], damage: str
) -> None:
    model, path = onnx.ModelProto.FromString(source[0]), source[1]
    stored, data = read_header(path), bytearray(path.read_bytes())
    first, second = "restorer.blocks.0.conv1.weight", "restorer.blocks.1.conv1.weight"
    if damage == "moved":
        stored[first], stored[second] = stored[second], stored[first]
    elif damage == "changed":
        data[stored[first].offset + 100] ^= 1
    elif damage == "renamed":
        stored["spare"] = stored.pop(first)
    else:
        stored["spare"] = Stored((2,), len(data), 4)
        data += b"spam"
    with pytest.raises(ArtefactError, match=r"blocks\.0|spare"):
        refer(model, stored, bytes(data), path.name)


def test_only_what_training_writes_is_packaged(tmp_path: Path) -> None:
    state = checkpoint.random(TINY, 2)[0].state_dict()
    path = tmp_path / "w.safetensors"
    for tensors in (state, {name: value.half() for name, value in state.items()}):
        save_file(tensors, path)
        with pytest.raises(CheckpointError, match=r"expected float16 weights with their Spec"):
            packaged.write_files(TINY, path, tmp_path / "out")
    for content in (b"not at all", b"\2\0\0\0\0\0\0\0[]"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a safetensors file"):
            packaged.write_files(TINY, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", MODELS)
def test_the_pair_in_the_package_fits(name: str) -> None:
    weights, graph = DATA / f"{name}.safetensors", DATA / f"{name}.onnx"
    if not weights.is_file() and not graph.is_file():
        pytest.skip(f"the package carries no {name}")
    net, spec = checkpoint.load(name, weights)
    pictures = np.random.default_rng(0).random((2, 1, 3, 64, 96), dtype=np.float32)
    signature = MODELS[name].signature("whole")
    given = dict(zip(signature.inputs, pictures, strict=False))
    with torch.inference_mode():
        made = net.eval().run("whole", *map(torch.from_numpy, given.values()))
    with OrtBackend(graph, Options(threads=1)) as backend:
        found = backend.run(given)
        assert (backend.spec, backend.graph) == (spec, packaged.graph_of(name))
    for output, expected in zip(signature.outputs, made, strict=True):
        cut = expected if KINDS[output] == "picture" else expected.relu()
        np.testing.assert_allclose(found[output], cut.numpy(), atol=1e-4)
