"""Weights in files: what is written comes back, and what does not belong is refused by name."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from allfocus.runtime.errors import CheckpointError
from allfocus.train.checkpoint import State, fingerprint, load, random, save

TINY = "didanet-tiny"
RELEASED = "didanet-released"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save(path, TINY, random(TINY, 0)[0], weights="random", license="none needed")
    return path


def state() -> State:
    tensors: State = random(TINY, 0)[0].state_dict()
    return tensors


def public_name(key: str) -> str:
    """A parameter's name in the public code: the inverse of `from_public_name`, written out."""
    net, part, *rest = key.split(".")
    letter = {"estimator": "a", "restorer": "b"}[net]
    if part != "blocks":
        return f"conv{ {'head': '01', 'body': '02', 'tail': '03'}[part] }{letter}.{rest[0]}"
    number, conv, kind = rest
    return f"convRes{int(number) + 1:02}{letter}.{ {'conv1': 0, 'conv2': 2}[conv] }.{kind}"


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    net, _ = random(TINY, 3)
    path = tmp_path / "tiny.safetensors"
    spec = save(path, TINY, net, weights="made by a test", license="CC0")
    loaded, read = load(TINY, path)
    assert read == spec
    assert (read.weights, read.license) == ("made by a test", "CC0")
    for name, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name


def test_random_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (random(TINY, seed)[1].weights_sha256 for seed in (0, 0, 1))
    assert first == again != other


def test_the_fingerprint_sees_values_names_and_types() -> None:
    tensors = state()
    name = next(iter(tensors))
    changed = tensors[name].clone()
    changed.view(-1)[0] += 1
    variants = (
        {**tensors, name: changed},
        {("x" if key == name else key): value for key, value in tensors.items()},
        {**tensors, name: tensors[name].half()},
    )
    digests = {fingerprint(variant) for variant in (tensors, *variants)}
    assert len(digests) == 4


def test_weights_of_another_model_are_refused_with_its_name(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=f"weights of '{TINY}'.*use `--model {TINY}`"):
        load("didanet", saved)


def without_first(tensors: State) -> State:
    return dict(list(tensors.items())[1:])


def with_another(tensors: State) -> State:
    return {**tensors, "gate.weight": torch.zeros(3)}


def reshaped(tensors: State) -> State:
    return {**tensors, "restorer.tail.bias": torch.zeros(4)}


def with_nan(tensors: State) -> State:
    return {**tensors, "restorer.tail.bias": torch.tensor([0.0, float("nan"), 0.0])}


def with_infinity(tensors: State) -> State:
    return {**tensors, "restorer.tail.bias": torch.tensor([0.0, float("inf"), 0.0])}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_first, r"1 missing \(estimator\.head\.0\.weight\), 0 extra"),
        (with_another, r"0 missing, 1 extra \(gate\.weight\)"),
        (reshaped, r"restorer\.tail\.bias is \[4\], expected \[3\]"),
        (with_nan, r"NaN or infinity in restorer\.tail\.bias"),
        (with_infinity, r"NaN or infinity in restorer\.tail\.bias"),
    ],
)
def test_weights_that_do_not_fit(
    tmp_path: Path, suffix: str, change: Callable[[State], State], says: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(change(state()), path)
    with pytest.raises(CheckpointError, match=says):
        load(TINY, path)


def test_nan_is_not_saved(tmp_path: Path) -> None:
    net, _ = random(TINY, 0)
    net.load_state_dict(with_nan(net.state_dict()))
    with pytest.raises(CheckpointError, match="NaN"):
        save(tmp_path / "tiny.safetensors", TINY, net, weights="", license="")
    assert not list(tmp_path.iterdir())


class Intruder:
    """A pickle of it makes a folder when it is loaded by plain `pickle`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.mkdir, (self.folder,)


@pytest.mark.parametrize("writer", [torch.save, lambda data, path: path.write_bytes(data)])
def test_a_pickle_that_wants_to_run_code_does_not(
    tmp_path: Path, writer: Callable[[object, Path], object]
) -> None:
    ran, path = tmp_path / "ran", tmp_path / "weights.pth"
    content = {"state_dict": Intruder(ran)}
    writer(content if writer is torch.save else pickle.dumps(content, protocol=2), path)
    with pytest.raises(CheckpointError, match="would run code"):
        load(TINY, path)
    assert not ran.exists()
    if writer is not torch.save:  # the trap is a real one
        pickle.loads(path.read_bytes())
        assert ran.exists()


def legacy_save(content: object, path: Path) -> None:
    """The format before torch 1.6: the public code's time."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


Writer = Callable[[State, Path], None]
WRITERS = [save_file, torch.save, legacy_save]


def written(folder: Path, write: Writer) -> Path:
    path = folder / ("weights.safetensors" if write is save_file else "weights.pth")
    write(state(), path)
    return path


@pytest.mark.parametrize("write", WRITERS)
@settings(max_examples=25)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, write: Writer, share: float
) -> None:
    path = written(tmp_path_factory.mktemp("cut"), write)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=path.name):
        load(TINY, path)


@pytest.mark.parametrize("cut", range(100, 140))  # somewhere inside a pickled number
def test_an_old_file_cut_in_its_header_is_refused(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path, legacy_save)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=path.name):
        load(TINY, path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", WRITERS)
@settings(max_examples=40)
@given(changes=st.dictionaries(st.floats(0, 0.999), st.integers(0, 255), min_size=1, max_size=9))
def test_changed_bytes_are_refused_or_are_weights(
    tmp_path_factory: pytest.TempPathFactory, write: Writer, changes: dict[float, int]
) -> None:
    path = written(tmp_path_factory.mktemp("changed"), write)
    damaged = bytearray(path.read_bytes())
    for place, value in changes.items():
        # Most changes into the first tenth: there the headers are.
        damaged[int(place**4 * len(damaged))] = value
    path.write_bytes(damaged)
    with suppress(CheckpointError):
        net, _ = load(TINY, path)
        assert net.state_dict().keys() == state().keys()


@pytest.mark.parametrize(
    "content", [[1, 2], {"state_dict": [1]}, {"epoch": 3}], ids=["list", "no dict", "no tensors"]
)
def test_a_pickle_without_tensors_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="expected a state_dict of tensors"):
        load(TINY, path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth: no such file"):
        load(TINY, tmp_path / "gone.pth")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_public_codes_checkpoint_loads_by_name(tmp_path: Path, prefix: str) -> None:
    net, _ = random(RELEASED, 5)
    path = tmp_path / "model_best.pth.tar"
    renamed = {prefix + public_name(k): v for k, v in net.state_dict().items()}
    assert {prefix + "conv01a.weight", prefix + "convRes16b.2.bias"} <= set(renamed)
    torch.save({"epoch": 400, "arch": "DID_ANet", "state_dict": renamed, "best": 0.5}, path)
    loaded, spec = load(RELEASED, path)
    for name, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert spec.weights == "given by the user: model_best.pth.tar"


def test_the_public_codes_checkpoint_is_no_other_model(tmp_path: Path) -> None:
    net, _ = random(RELEASED, 5)
    path = tmp_path / "model_best.pth.tar"
    torch.save({"state_dict": {public_name(k): v for k, v in net.state_dict().items()}}, path)
    with pytest.raises(CheckpointError, match=r"not weights of 'didanet'.*missing.*extra"):
        load("didanet", path)
