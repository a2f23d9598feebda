"""Training nets of other widths, from parts of other weights, and taught by a better net."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from allfocus.runtime.artefacts import packaged_weights
from allfocus.runtime.errors import CheckpointError, UsageError
from allfocus.train import checkpoint
from allfocus.train.checkpoint import NET_KEY
from allfocus.train.data import Batch
from allfocus.train.models import build
from allfocus.train.recipe import Options, Plan
from allfocus.train.recipes.plain import PlainRecipe
from allfocus.train.train import main
from allfocus.train.train_options import given_weights

TINY = "didanet-tiny"
SHORT = ["--recipe", "plain", "--steps", "2", "--batch", "2", "--crop", "32", "--workers", "0"]
SHORT += ["--val-crops", "1", "--device", "cpu", "--pictures", "0"]


def command(out: Path, *more: str) -> list[str]:
    return ["--model", TINY, "--data", "dead-leaves", "--out", str(out), *SHORT, *more]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Random weights of the usual widths."""
    path = tmp_path / "given.safetensors"
    checkpoint.save(path, TINY, checkpoint.random(TINY, 1)[0], weights="given", license="none")
    return path


def test_other_widths_stand_in_the_file_and_come_back(tmp_path: Path) -> None:
    assert main(command(tmp_path, "--net", "features=8,blocks=1")) == 0
    path = tmp_path / f"{TINY}.safetensors"
    net, spec = checkpoint.load(TINY, path)
    assert net.changes == {"blocks": 1, "features": 8}
    assert tuple(net.get_parameter("restorer.head.weight").shape) == (8, 4, 3, 3)
    assert (
        "with blocks 1, features 8" in spec.weights or "with features 8, blocks 1" in spec.weights
    )
    assert spec.parameters < checkpoint.random(TINY, 0)[1].parameters
    assert checkpoint.load_any(path)[1] == spec


def test_usual_widths_leave_no_trace(tmp_path: Path) -> None:
    net = build(TINY, {"features": 16})
    assert net.changes == {}
    checkpoint.save(tmp_path / "w.safetensors", TINY, net, weights="w", license="none")
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert NET_KEY not in file.metadata()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colours": 4}, "has no width or depth 'colours'"),
        ({"features": 0}, "features: expected at least 1"),
        ({"map_levels": 3}, "takes multiples of 4 pixels"),
    ],
)
def test_widths_that_cannot_be_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(TINY, changes)


def test_widths_in_a_file_that_are_none_are_refused(trained: Path) -> None:
    with safe_open(trained, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(trained), trained, metadata={**metadata, NET_KEY: '{"features": "many"}'})
    with pytest.raises(CheckpointError, match="widths and depths that are none"):
        checkpoint.load(TINY, trained)


def test_what_fits_of_other_weights_is_taken_and_stays_where_it_is_frozen(
    tmp_path: Path, trained: Path
) -> None:
    given = ["--net", "features=8", "--init", str(trained), "--freeze", "estimator.*"]
    assert main(command(tmp_path / "run", *given)) == 0
    net, spec = checkpoint.load(TINY, tmp_path / "run" / f"{TINY}.safetensors")
    before = checkpoint.load(TINY, trained)[0].state_dict()
    for name, value in net.state_dict().items():
        if name.startswith("estimator."):
            assert torch.equal(value, before[name]), name
    assert "estimator.* left as they were" in spec.weights
    assert "tensors from weights" in spec.weights


def test_what_is_frozen_keeps_its_running_means(tmp_path: Path) -> None:
    """APL's detection net normalises batches: its map would change with its means."""
    path = tmp_path / "given.safetensors"
    checkpoint.save(path, "apl-tiny", checkpoint.random("apl-tiny", 1)[0], weights="w", license="")
    words = ["--model", "apl-tiny", "--init", str(path), "--freeze", "detector.*"]
    assert main(command(tmp_path / "run", *words)) == 0
    after = checkpoint.load("apl-tiny", tmp_path / "run" / "apl-tiny.safetensors")[0].state_dict()
    before = checkpoint.load("apl-tiny", path)[0].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not {name for name in changed if name.startswith("detector.")}
    assert any("running_mean" in name for name in changed)  # the restorer's


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", str(2**63)], "expected a seed of under"),
        (["--freeze", "nothing.*"], "no parameter has such a name"),
        (["--freeze", "*"], "nothing is left to train"),
        (["--lesson", "0.3"], "there is no teacher"),
        (["--lesson", "0"], "expected a share above 0"),
        (["--teacher", "absent.safetensors"], "no such file"),
        (["--net", "features=wide"], "expected each once, such as features=48"),
        (["--net", "features=8,features=16"], "expected each once, such as features=48"),
        (
            ["--stages", "1"],
            "--stages 1: this recipe leaves it out; give it a length: --epochs 1,0",
        ),
    ],
)
def test_choices_that_cannot_be_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    status = main(command(tmp_path / "run", *options))
    assert status in (1, 2)
    assert message in capsys.readouterr().err


def test_crops_that_only_the_teacher_cannot_take_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, path = "defocusgan-tiny", tmp_path / "teacher.safetensors"
    checkpoint.save(path, name, checkpoint.random(name, 1)[0], weights="w", license="")
    assert main(command(tmp_path / "run", "--crop", "20", "--teacher", str(path))) == 2
    assert "the teacher" in capsys.readouterr().err


def test_a_teacher_may_be_moved_between_two_goes_but_not_changed(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(command(out, "--teacher", str(trained))) == 0
    moved = trained.rename(tmp_path / "elsewhere.safetensors")
    assert main(command(out, "--teacher", str(moved))) == 0
    assert main(command(out)) == CheckpointError.exit_code
    assert "other settings" in capsys.readouterr().err
    checkpoint.save(moved, TINY, checkpoint.random(TINY, 2)[0], weights="w", license="none")
    assert main(command(out, "--teacher", str(moved))) == CheckpointError.exit_code
    assert "other settings (start: 'taught by weights" in capsys.readouterr().err


def test_a_net_learns_what_its_teacher_makes(trained: Path) -> None:
    """With no other lesson it comes nearer to it."""
    torch.manual_seed(0)
    pupil = build(TINY)
    plan = Plan(
        learning_rate=3e-3, schedule="constant", stages=2, epochs=(0, 1), crop=32, batch=2, total=40
    )
    recipe = PlainRecipe(TINY, pupil, plan, Options(loss="l2", teacher=str(trained), lesson=1.0))
    image, sharp, defocus = (
        torch.rand(2, 3, 32, 32),
        torch.rand(2, 3, 32, 32),
        torch.rand(2, 1, 32, 32),
    )
    batch = Batch(image, sharp, defocus, has_map=True)
    optimizer = recipe.optimizers["net"]
    errors = []
    for step in range(40):
        parts = recipe.losses(step, batch, "net")
        assert set(parts) == {"deblur", "lesson", "map"}
        assert parts["deblur"].item() == 0.0  # the truth is no part of it
        errors.append(parts["lesson"].item())
        optimizer.zero_grad()
        sum(parts.values(), torch.zeros(())).backward()
        optimizer.step()
    assert errors[-1] < 0.7 * errors[0]
    assert recipe.teacher is not None
    assert all(parameter.grad is None for parameter in recipe.teacher.parameters())


def test_weights_are_a_file_or_the_name_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert given_weights("didanet-lite") == packaged_weights("didanet-lite")
    assert given_weights("mine.safetensors") == Path("mine.safetensors")
    with pytest.raises(argparse.ArgumentTypeError, match="the package has no weights of apl-tiny"):
        given_weights("apl-tiny")
    (tmp_path / "didanet-lite").touch()
    assert given_weights("didanet-lite") == Path("didanet-lite")
