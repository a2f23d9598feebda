"""The training command end to end on a tiny net: learns, and refuses what it must."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from recipe_runs import photos as squares
from recipe_runs import train
from tiny_runs import command, losses, pairs

from allfocus.runtime.errors import AllfocusError, CheckpointError, InputError, UsageError
from allfocus.train import checkpoint, loop
from allfocus.train import train as train_module
from allfocus.train.data import Pair, find, hold_out
from allfocus.train.models import build
from allfocus.train.models.didanet import DidANet
from allfocus.train.train import main


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("photos"), 3)


DEVICES = ("quantum", "mps", "xpu", "meta", "", "cpu:3", "cuda:-1", "cuda:x")  # none of ours


def test_a_run_writes_weights_that_load(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(photos, tmp_path), "--json", "--note", "Noise."]) == 0
    summary = json.loads(capsys.readouterr().out)
    net, spec = checkpoint.load("didanet-tiny", tmp_path / "didanet-tiny.safetensors")
    assert spec.weights_sha256 == summary["sha256"]
    assert spec.weights.endswith("Noise.")
    assert [stage for stage, _ in losses(tmp_path)] == ["1"] * 4 + ["2"] * 2 + ["3"] * 4
    assert summary["validation"]["crops"] == 2
    fresh = build("didanet-tiny").state_dict()
    assert any((fresh[k] != v).any() for k, v in net.state_dict().items())


def test_a_damaged_picture_that_is_held_out_costs_no_report(tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", 101, 32)
    held = hold_out(find(data))[1][2]
    assert isinstance(held, Pair)
    held.blurry.write_bytes(b"broken")
    out = tmp_path / "out"
    assert train(data, out, "didanet-tiny", "--val-crops", "40", steps=1) == 0
    assert (out / "report.json").is_file()


def test_an_error_in_a_worker_is_told_in_its_own_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pairs(tmp_path / "data")
    for i in range(1, 4):
        assert cv2.imwrite(str(data / "sharp" / f"{i}.png"), np.zeros((60, 48, 3), np.uint8))
    given = command(data, tmp_path / "out", "--workers", "1", "--stages", "1,2")
    assert main(given) == InputError.exit_code
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "allfocus: " in line)
    assert "sizes differ" in line


def test_a_file_in_place_of_the_runs_folder_is_told_first(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint, "load", lambda *_: pytest.fail("work began"))
    (tmp_path / "file").touch()
    for out in ("file", "file/below"):
        assert main(command(photos, tmp_path / out, "--init", "some.pth")) == UsageError.exit_code
        assert "file is a file, where a folder was expected" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").mkdir()
    assert main(command(photos, tmp_path)) == AllfocusError.exit_code
    assert f"cannot write {tmp_path / 'report.json'}" in capsys.readouterr().err


def test_apl_on_pictures_with_masks_reports_losses_and_no_psnr(tmp_path: Path) -> None:
    data = pairs(tmp_path / "data")
    for old, new in (("blurry", "image"), ("sharp", "gt")):  # as CUHK has them
        (data / old).rename(data / new)
        for path in sorted((data / new).iterdir()):
            path.rename(path.with_name(f"out_of_focus{path.name}"))
    for path in (data / "gt").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        assert cv2.imwrite(str(path), mask)
    out = tmp_path / "out"
    given = [*command(data, out, "--model", "apl-tiny"), "--epochs", "1,1,1,0,0,0,0"]
    assert main(given) == 0
    validation = json.loads((out / "report.json").read_text())["validation"]
    assert set(validation) == {"losses", "line"}


def test_a_warmup_below_zero_is_refused(photos: Path, tmp_path: Path) -> None:
    assert main(command(photos, tmp_path, "--warmup", "-5")) == UsageError.exit_code


def test_too_little_memory_is_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(photos, tmp_path / "run", "--net", "features=2000000000000")) == 1
    said = capsys.readouterr().err
    assert re.search(r"memory.*: use a smaller --batch or --crop, fewer --workers", said)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB.\nMore."), True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), True),
        (MemoryError(), True),
        (RuntimeError("a fault of ours"), False),
    ],
)
def test_only_what_is_short_of_memory_is_called_that(
    monkeypatch: pytest.MonkeyPatch,
    photos: Path,
    tmp_path: Path,
    error: Exception,
    told: bool,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(train_module, "_train", fail)
    words = command(photos, tmp_path / "run")
    if told:
        assert main(words) == 1
    else:
        with pytest.raises(RuntimeError, match="a fault of ours"):
            main(words)


def test_one_position_is_too_little_to_normalise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "apl-detect-tiny", "--recipe", "plain", "--data", "dead-leaves"]
    words += ["--out", str(tmp_path / "run"), "--steps", "1", "--batch", "1", "--crop", "4"]
    assert main(words) == UsageError.exit_code
    assert "give --batch 2 or --crop 8" in capsys.readouterr().err


def test_a_scale_beyond_all_numbers_is_refused(photos: Path, tmp_path: Path) -> None:
    words = [w for w in command(photos, tmp_path / "run") if w]
    if "--steps" in words:
        at = words.index("--steps")
        del words[at : at + 2]
    assert main([*words, "--scale", "1e308"]) == UsageError.exit_code


def test_fine_tuning_starts_from_given_weights(photos: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    assert main(command(photos, first)) == 0
    weights = first / "didanet-tiny.safetensors"
    options = ["--init", str(weights), "--lr", "1e-12"]  # too small a step to show in float16
    assert main(command(photos, tmp_path / "second", *options)) == 0
    before, spec = checkpoint.load("didanet-tiny", weights)
    after, tuned = checkpoint.load("didanet-tiny", tmp_path / "second/didanet-tiny.safetensors")
    state = before.state_dict()
    assert all((state[k] == v).all() for k, v in after.state_dict().items())
    assert f"from weights {spec.weights_sha256[:12]}" in tuned.weights
    other = command(photos, first, "--init", str(weights))
    assert main(other) == CheckpointError.exit_code  # the state there did not start from them
    assert main([*other, "--init", "none.pth"]) == CheckpointError.exit_code


def test_a_loss_that_is_not_finite_stops_the_run(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def poisoned(name: str, sizes: object) -> DidANet:
        assert sizes is None
        net = build(name)
        assert isinstance(net, DidANet)
        assert net.restorer.tail.bias is not None
        net.restorer.tail.bias.data.fill_(float("nan"))
        return net

    monkeypatch.setattr("allfocus.train.train_start.build", poisoned)
    assert main(command(photos, tmp_path)) == AllfocusError.exit_code
    assert "step 0: the loss is nan" in capsys.readouterr().err
    assert not (tmp_path / "didanet-tiny.safetensors").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model", "didant"], "did you mean 'didanet'"),
        *((["--device", name], "expected auto, cpu") for name in DEVICES),
        (["--device", "cuda:9"], "torch sees no CUDA GPU; use --device cpu"),
        (["--scale", "0"], "scale: expected more than 0"),
        (["--scale", "inf"], "scale: expected a finite number"),
        (["--crop", "50"], "give --crop 48 or 52"),
    ],
)
def test_wrong_use_is_told(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("allfocus.train.split.find", lambda *_: pytest.fail("data was read"))
    assert main(command(photos, tmp_path / "out", *more)) == UsageError.exit_code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["cuda:2", "cuda:9", "cuda:1000", "cuda:99999999999999999999"])
def test_a_gpu_that_is_not_there_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="sees 2 CUDA GPUs; expected cuda:0, cuda:1"):
        loop.pick_device(name)
    assert loop.pick_device("auto") == torch.device("cuda")
    assert loop.pick_device("cuda:1") == torch.device("cuda:1")


def test_data_that_are_not_there_leave_no_folder(tmp_path: Path) -> None:
    assert main(command(tmp_path / "none", tmp_path / "out")) == InputError.exit_code
    assert not (tmp_path / "out").exists()
