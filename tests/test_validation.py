"""Looks at held-out crops during a run: what is written, which weights are kept, and that it
changes no step.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from full_disk import full_after
from recipe_runs import photos, train

from allfocus.runtime.errors import AllfocusError
from allfocus.train import checkpoint, loop, validation
from allfocus.train.average import Average
from allfocus.train.models import build
from allfocus.train.provenance import best_step
from allfocus.train.validation import FILE

PLAIN = ("didanet-tiny", "--recipe", "plain", "--val-crops", "2", "--pictures", "0")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos"))


def rows(out: Path) -> list[dict[str, str]]:
    with (out / FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def logged(out: Path) -> str:
    return (out / "log.csv").read_text()


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load("didanet-tiny", path)[0].state_dict()


def score(monkeypatch: pytest.MonkeyPatch, *figures: float) -> None:
    """Have the looks find these, one after the other."""
    real, left = validation.Validation._measure, iter(figures)

    def measured(self: validation.Validation) -> dict[str, object]:
        found = real(self)
        found["figures"]["score"] = next(left)
        return found

    monkeypatch.setattr(validation.Validation, "_measure", measured)


def test_it_looks_now_and_then_and_at_the_end(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path, *PLAIN, "--val-every", "2", steps=5) == 0
    found = rows(tmp_path)
    assert [row["step"] for row in found] == ["2", "4", "5"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert float(found[-1]["psnr"]) == pytest.approx(report["validation"]["whole"]["after"], 1e-4)
    best = max(reversed(found), key=lambda row: float(row["psnr"]))  # the last of equals
    assert report["best"]["step"] == int(best["step"])
    spec = checkpoint.load_any(tmp_path / "didanet-tiny-best.safetensors")[1]
    assert f"as of step {best['step']}, the best on held-out crops" in spec.weights


def test_it_changes_no_step_and_shows_the_average(data: Path, tmp_path: Path) -> None:
    averaged = (*PLAIN, "--ema", "0.5")
    for name, every in (("with", "1"), ("without", "0")):
        assert train(data, tmp_path / name, *averaged, "--val-every", every, steps=4) == 0
    assert logged(tmp_path / "with") == logged(tmp_path / "without")
    last = [tensors(tmp_path / name / "didanet-tiny.safetensors") for name in ("with", "without")]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])
    assert [row["step"] for row in rows(tmp_path / "without")] == ["4"]
    assert not (tmp_path / "without" / "didanet-tiny-best.safetensors").exists()
    assert json.loads((tmp_path / "without" / "report.json").read_text())["best"] is None


def test_the_best_stays_when_later_weights_are_worse(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    score(monkeypatch, 20.0, 30.0, 25.0)
    assert train(data, tmp_path, *PLAIN, "--val-every", "2", steps=5) == 0
    best, last = (tmp_path / f"didanet-tiny{end}.safetensors" for end in ("-best", ""))
    assert f"better at step 4: {best}" in capsys.readouterr().out
    ours, theirs = tensors(best), tensors(last)
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_killed_run_goes_on_with_its_looks(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = (*PLAIN, "--val-every", "1")
    assert train(data, tmp_path / "whole", *every, steps=4) == 0
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)  # save at every step
    real, calls = loop._step, []

    def killed(*args: object) -> object:
        calls.append(None)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_step", killed)
    assert train(data, tmp_path / "killed", *every, steps=4) == 130
    monkeypatch.setattr(loop, "_step", real)
    text = (tmp_path / "killed" / FILE).read_text()
    (tmp_path / "killed" / FILE).write_text(f"{text}9,2,1,1,1,99\nnothing\n")  # of a later step
    assert train(data, tmp_path / "killed", *every, steps=4) == 0
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert train(data, tmp_path / "killed", *every, steps=4) == 0  # nothing is left to do
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


def test_weights_that_were_given_may_stay_the_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(data, tmp_path / "first", *PLAIN, steps=2) == 0
    weights = tmp_path / "first" / "didanet-tiny.safetensors"
    score(monkeypatch, 30.0, 20.0, 25.0)
    more = ("--init", str(weights), "--val-every", "2", "--lr", "0.1")
    assert train(data, tmp_path / "more", *PLAIN, *more, steps=3) == 0
    assert [row["step"] for row in rows(tmp_path / "more")] == ["0", "2", "3"]
    ours, theirs = tensors(tmp_path / "more" / "didanet-tiny-best.safetensors"), tensors(weights)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_run_that_is_killed_in_a_look_looks_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = (*PLAIN, "--val-every", "2")
    assert train(data, tmp_path / "whole", *every, steps=6) == 0
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)  # save at every step
    real, calls = validation.Validation._measure, []

    def killed(self: validation.Validation) -> dict[str, object]:
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(validation.Validation, "_measure", killed)
    assert train(data, tmp_path / "killed", *every, steps=6) == 130
    assert train(data, tmp_path / "killed", *every, steps=6) == 0
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


def test_the_report_names_what_the_best_file_holds(data: Path, tmp_path: Path) -> None:
    every, best = (*PLAIN, "--val-every", "2"), tmp_path / "didanet-tiny-best.safetensors"
    assert train(data, tmp_path, *every, steps=5) == 0

    def told() -> tuple[int, int | None]:
        step = json.loads((tmp_path / "report.json").read_text())["best"]["step"]
        return step, best_step(checkpoint.load_any(best)[1].weights)

    assert len(set(told())) == 1
    best.unlink()
    assert train(data, tmp_path, *every, steps=5) == 0  # nothing is left to do but this
    assert told() == (5, 5)
    assert train(data, tmp_path, *every, "--val-crops", "1", steps=5) == 0
    assert [row["crops"] for row in rows(tmp_path)] == ["1"]  # others compare with none of these
    assert told() == (5, 5)


@pytest.mark.parametrize("form", ["utf-8-sig", "latin-1"])
def test_a_table_that_an_editor_saved_is_read(data: Path, tmp_path: Path, form: str) -> None:
    every = (*PLAIN, "--val-every", "2")
    assert train(data, tmp_path, *every, steps=5) == 0
    before, table = rows(tmp_path), tmp_path / FILE
    table.write_text(table.read_text() + "größer\n", encoding=form)
    assert train(data, tmp_path, *every, steps=5) == 0
    assert rows(tmp_path) == before


def test_losses_against_a_judge_that_learns_tell_no_best(tmp_path: Path) -> None:
    folder = tmp_path / "masked"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
        for index in range(3):
            picture = np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)
            if name == "masks":
                picture = np.full((64, 64, 3), 255, np.uint8)
                picture[:, :32] = 0
            assert cv2.imwrite(str(folder / name / f"{index}.png"), picture)
    out = tmp_path / "out"
    assert train(folder, out, "apl-tiny", "--pictures", "0", "--val-every", "4", steps=14) == 0
    assert "score" not in rows(out)[0]
    assert json.loads((out / "report.json").read_text())["best"] is None


def test_nets_that_make_no_pictures_are_judged_by_their_losses(data: Path, tmp_path: Path) -> None:
    plain = ("apl-detect-tiny", "--recipe", "plain", "--val-crops", "2")
    assert train(data, tmp_path, *plain, "--val-every", "2", steps=4) == 0
    found = rows(tmp_path)
    assert [row["step"] for row in found] == ["2", "4"]
    for row in found:
        assert float(row["score"]) == pytest.approx(-float(row["focus"]))


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    look = validation.Validation.__new__(validation.Validation)
    look.every, look._rows, look._table = 0, [], tmp_path / FILE
    look._measure = lambda: {"figures": {"score": 1.0}}  # type: ignore[method-assign]
    with full_after(3), pytest.raises(AllfocusError, match=r"cannot write .*validation\.csv"):
        look.write(1)
    assert list(tmp_path.iterdir()) == []


def test_averaged_weights_are_shown_for_a_while_alone() -> None:
    net = build("didanet-tiny")
    average = Average({"net": net}, 0.5)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    changed = {key: value.clone() for key, value in net.state_dict().items()}

    def look() -> None:
        with average.shown({"net": net}):
            assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
            raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match="broken off"):
        look()
    assert all(torch.equal(changed[key], value) for key, value in net.state_dict().items())
