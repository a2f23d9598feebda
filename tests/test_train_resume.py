"""Runs of the training command that are continued: what must be as it was, and what is left."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from recipe_runs import photos as squares
from recipe_runs import train
from tiny_runs import command, losses, pairs

from allfocus.runtime.errors import AllfocusError, CheckpointError, UsageError
from allfocus.train import checkpoint, loop
from allfocus.train.data import PhotoSamples
from allfocus.train.models import build
from allfocus.train.recipe import Options
from allfocus.train.recipes.plain import PlainRecipe
from allfocus.train.rendered import render_into
from allfocus.train.state import save_state
from allfocus.train.synthetic import Recipe as Drawn
from allfocus.train.train import main


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("photos"), 3)


def test_a_killed_run_resumes_to_the_same_losses(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(photos, tmp_path / "whole")) == 0
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)  # save at every step
    real, calls = loop._step, []

    def killed(*args: object) -> object:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_step", killed)
    assert main(command(photos, tmp_path / "parts")) == 130
    assert len(losses(tmp_path / "parts")) == 5
    assert main(command(photos, tmp_path / "parts")) == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_resuming_with_other_settings_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(photos, tmp_path)) == 0
    assert main(command(photos, tmp_path, "--lr", "0.5")) == CheckpointError.exit_code
    said = capsys.readouterr().err
    assert "learning_rate: 0.0001 then, 0.5 now" in said
    assert "--init" not in said
    assert main(command(photos, tmp_path, "--epochs", "5,2,4")) == CheckpointError.exit_code
    assert f"--init {tmp_path / 'didanet-tiny.safetensors'}" in capsys.readouterr().err


def test_a_continued_run_keeps_its_precision_its_files_and_what_it_is_validated_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = pairs(tmp_path / "data"), tmp_path / "out"
    val, other = pairs(tmp_path / "val", 1), pairs(tmp_path / "other", 1, 52)
    given = command(data, out, "--val", str(val))
    assert main(given) == UsageError.exit_code
    assert "no maps, and stage 3 asks a trained estimator" in capsys.readouterr().err
    given += ["--stages", "1,2"]
    assert main(given) == 0
    for more, said in (
        (["--precision", "bf16"], "precision: 'fp32' then, 'bf16' now"),
        (["--val", str(other)], "val: 'val' then, 'other' now"),
    ):
        assert main([*given, *more]) == CheckpointError.exit_code
        assert said in capsys.readouterr().err
    data.rename(tmp_path / "place")
    pairs(data, 5)
    assert main(given) == CheckpointError.exit_code
    assert "pictures of --data were added, removed or changed" in capsys.readouterr().err


def test_a_state_without_those_settings_goes_on(photos: Path, tmp_path: Path) -> None:
    assert main(command(photos, tmp_path)) == 0
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    added = ("precision", "val", "data_files", "val_files", "data_rendered", "val_rendered")
    for name in added:
        del state["run"][name]
    torch.save(state, tmp_path / "state.pt")
    assert main(command(photos, tmp_path)) == 0


def rendered(folder: Path, seed: int) -> Path:
    """The samples of a seed, in place of those that are there."""
    if folder.exists():
        shutil.rmtree(folder)
    drawn = PhotoSamples([], 32, seed, Drawn(max_radius=1, beyond_radius=1.5))
    assert len(list(render_into(folder, drawn, 4, 0))) == 4
    return folder


@pytest.mark.parametrize("part", ["data", "val"])
def test_samples_that_were_rendered_anew_are_noticed(
    tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another seed all files are as large as they were."""
    folders = {name: rendered(tmp_path / name, 1) for name in ("data", "val")}
    given = command(folders["data"], tmp_path / "out", "--val", str(folders["val"]))
    assert main(given) == 0
    rendered(folders[part], 1)  # the same ones
    assert main(given) == 0
    rendered(folders[part], 2)
    capsys.readouterr()
    assert main(given) == CheckpointError.exit_code
    assert f"({part}_rendered: " in capsys.readouterr().err


def test_a_state_that_the_disk_does_not_take_leaves_the_former(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some disks tell that they are full only when a file is forced to them."""
    net = build("didanet-tiny")
    recipe = PlainRecipe("didanet-tiny", net, PlainRecipe.paper, Options())
    weights, state = tmp_path / "tiny.safetensors", tmp_path / "state.pt"

    def write(step: int) -> None:
        save_state(state, recipe, None, step, {})

    def publish() -> None:
        checkpoint.save(weights, "didanet-tiny", net, weights="a test's", license="none needed")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(1)
    publish()
    before = state.read_bytes(), weights.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AllfocusError, match=r"state\.pt: No space left"):
        write(2)
    with pytest.raises(AllfocusError, match=r"tiny\.safetensors: No space left"):
        publish()
    assert (state.read_bytes(), weights.read_bytes()) == before


@pytest.mark.parametrize("damage", ["cut", "empty", "words", "other", "old"])
def test_a_damaged_state_is_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    path = tmp_path / "state.pt"
    torch.save({"weights": torch.zeros(2000)}, path)
    whole = path.read_bytes()
    contents = {"cut": whole[:800], "empty": b"", "words": b"hello, no state", "other": whole}
    if damage == "old":
        torch.save({"net": {}, "optimizer": {}, "step": 0, "run": {}}, path)
    else:
        path.write_bytes(contents[damage])
    assert main(command(photos, tmp_path)) == CheckpointError.exit_code
    assert "state.pt: not the state of a run, damaged or cut short" in capsys.readouterr().err


def test_a_second_run_in_one_folder_is_refused(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("allfocus.train.train._PATIENCE", 0.0)
    real, codes = loop._step, []

    def meanwhile(*args: object) -> object:
        if not codes:
            codes.append(train(photos, tmp_path, "didanet-tiny", "--seed", "1"))
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_step", meanwhile)
    assert train(photos, tmp_path, "didanet-tiny", steps=2) == 0
    assert codes == [UsageError.exit_code]
    assert "another `allfocus train` writes there" in capsys.readouterr().err
    assert len(losses(tmp_path)) == 2
    assert not list(tmp_path.glob(".*"))


def test_what_a_killed_run_left_half_written_is_removed(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    drafts = [
        tmp_path / f"{folder}.{name}-allfocus-0123abcd.{suffix}"
        for folder, name, suffix in (
            ("", "state", "pt"),
            ("", "didanet-tiny", "safetensors"),
            ("", "log", "csv"),
            ("", "report", "json"),
            ("samples/", "0000002", "png"),
        )
    ]
    for path in drafts:
        path.write_bytes(b"half")
    assert train(photos, tmp_path, "didanet-tiny", "--pictures", "2", steps=2) == 0
    assert not [path for path in drafts if path.exists()]
