"""Every recipe end to end on its tiny net, whole and killed; and what the command refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from recipe_runs import log, photos, train

from allfocus.runtime.errors import AllfocusError, CheckpointError, UsageError
from allfocus.train import checkpoint, loop
from allfocus.train.models import build
from allfocus.train.recipes.sftnet import SftnetRecipe

RUNS: dict[str, tuple[str, tuple[str, ...], int, set[str]]] = {
    # model, options, steps, the log's columns
    "sftnet": ("sftnet-tiny", ("--epochs", "2,1,1"), 4, {"deblur", "map", "weighted"}),
    "jdrl": (
        "jdrl-unet-tiny",
        ("--epochs", "1,1", "--precision", "bf16"),
        2,
        {"deblur", "cycle", "reblur"},
    ),
    "jdrl-bare": ("jdrl-unet-tiny", ("--no-cycle", "--no-reblur", "--no-mask"), 2, {"deblur"}),
    "defocusgan": (
        "defocusgan-tiny",
        ("--epochs", "2,1", "--precision", "bf16"),
        3,
        {"content", "adversarial", "critic", "penalty"},
    ),
    "defocusgan-bare": ("defocusgan-tiny", ("--no-mask", "--no-adversary"), 2, {"content"}),
    "dualpixel": (
        "dualpixel-map-tiny",
        ("--epochs", "1,1,0,0,0", "--precision", "bf16"),
        2,
        {"geometric", "roughness"},
    ),
    "apl": (
        "apl-tiny",
        ("--epochs", "1,1,1,0,0,0,0", "--precision", "bf16"),
        3,
        {"pretrain", "adversarial", "prior", "real", "fake"},
    ),
    "apl-labels": (
        "apl-tiny",
        ("--labels", "--stages", "2,3"),
        2,
        {"adversarial", "focus", "deblur", "real", "fake"},
    ),
    "apl-detect": ("apl-detect-tiny", (), 1, {"prior"}),
    "plain-jdrl": ("jdrl-unet-tiny", ("--recipe", "plain"), 2, {"deblur"}),
    "plain-apl": ("apl-tiny", ("--recipe", "plain"), 2, {"deblur", "focus"}),
    "plain-dualpixel": ("dualpixel-map-tiny", ("--recipe", "plain"), 2, {"map"}),
    "plain-detect": ("apl-detect-tiny", ("--recipe", "plain"), 2, {"focus"}),
    "plain-defocusgan": ("defocusgan-tiny", ("--recipe", "plain", "--loss", "l1"), 2, {"deblur"}),
    "plain-didanet": (
        "didanet-tiny",
        ("--recipe", "plain", "--epochs", "1,1", "--keep", "0.2"),
        2,
        {"deblur", "keep", "map"},
    ),
    "plain-reblur": ("jdrl-reblur-tiny", ("--recipe", "plain"), 2, {"deblur"}),
}

MAPLESS = ("--no-guidance", "--stages", "1,2")
MAP_ALONE = ("--recipe", "plain", "--epochs", "1,0")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos"))


@pytest.mark.parametrize("run", RUNS)
def test_a_recipe_trains_its_tiny_net(run: str, data: Path, tmp_path: Path) -> None:
    model, options, steps, columns = RUNS[run]
    assert train(data, tmp_path, model, *options, steps=steps) == 0
    rows = log(tmp_path)
    assert len(rows) == steps
    written = {name for row in rows for name, value in row.items() if value}
    assert written - {"step", "stage", "loss"} == columns
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    report = json.loads((tmp_path / "report.json").read_text())
    for path in (report["weights"], *report["others"]):
        name = Path(path).stem
        net, spec = checkpoint.load(name, Path(path))
        assert spec.name == name
        fresh = build(name).state_dict()
        assert any((fresh[k] != v).any() for k, v in net.state_dict().items())


def killed(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Stop the next run before its step `at`, counted from 0, its state saved at every step."""
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    real = loop._step

    def step(recipe, batch, number, precision):  # type: ignore[no-untyped-def]
        if number == at:
            monkeypatch.setattr(loop, "_step", real)
            raise KeyboardInterrupt
        return real(recipe, batch, number, precision)

    monkeypatch.setattr(loop, "_step", step)


@pytest.mark.parametrize(
    ("model", "options", "steps"),
    [
        # dropout: a step's random numbers are the same in a resumed run
        ("jdrl-unet-tiny", ("--ema", "0.9"), 4),
        ("apl-tiny", ("--stages", "1,2", "--ema", "0.5"), 4),
        ("defocusgan-tiny", (), 2),  # places between real and fake are drawn too
    ],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    options: tuple[str, ...],
    steps: int,
) -> None:
    assert train(data, tmp_path / "whole", model, *options, steps=steps) == 0
    killed(monkeypatch, steps // 2)
    assert train(data, tmp_path / "parts", model, *options, steps=steps) == 130
    assert len(log(tmp_path / "parts")) == steps // 2
    assert train(data, tmp_path / "parts", model, *options, steps=steps) == 0
    assert log(tmp_path / "parts") == log(tmp_path / "whole")
    for path in sorted((tmp_path / "whole").glob("*.safetensors")):
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()


def test_averaged_weights_are_what_is_saved(data: Path, tmp_path: Path) -> None:
    last: dict[str, dict[str, torch.Tensor]] = {}
    for decay in ("0", "0.9"):
        assert train(data, tmp_path / decay, "sftnet-tiny", "--ema", decay) == 0
        net, spec = checkpoint.load("sftnet-tiny", tmp_path / decay / "sftnet-tiny.safetensors")
        last[decay] = net.state_dict()
        assert ("averaged with decay 0.9" in spec.weights) == (decay == "0.9")
    assert log(tmp_path / "0") == log(tmp_path / "0.9")  # training itself is the same
    state = torch.load(tmp_path / "0.9/state.pt", weights_only=True)
    raw, mean = state["nets"]["sftnet-tiny"], state["average"]["sftnet-tiny"]
    key = "estimator.body.weight"
    assert torch.equal(last["0"][key], raw[key].half().float())
    assert torch.equal(last["0.9"][key], mean[key].half().float())
    assert not torch.equal(raw[key], mean[key])


def test_only_the_stages_asked_for_run(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path, "sftnet-tiny", "--stages", "1,3", steps=4) == 0
    assert [row["stage"] for row in log(tmp_path)] == ["1", "1", "3", "3"]


def test_a_loss_that_is_no_number_keeps_the_last_good_state(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    real = SftnetRecipe.losses

    def broken(self, step, batch, turn):  # type: ignore[no-untyped-def]
        found = real(self, step, batch, turn)
        return {**found, "deblur": found["deblur"] * math.nan} if step == 3 else found

    with monkeypatch.context() as patched:
        patched.setattr(SftnetRecipe, "losses", broken)
        assert train(data, tmp_path, "sftnet-tiny", steps=5) == AllfocusError.exit_code
    assert "step 3: the loss is nan, on the samples 6 to 7" in capsys.readouterr().err
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 3
    assert train(data, tmp_path, "sftnet-tiny", steps=5) == 0  # goes on from there
    assert len(log(tmp_path)) == 5


def test_a_gradient_that_is_not_finite_stops_before_it_does_harm(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def clipped(parameters: list[torch.nn.Parameter], length: float) -> torch.Tensor:  # noqa: ARG001
        return torch.tensor(math.inf)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clipped)
    assert train(data, tmp_path, "sftnet-tiny") == AllfocusError.exit_code
    said = capsys.readouterr().err
    assert "step 0: the gradient's length is inf, on the samples 0 to 1" in said


def test_a_full_disk_leaves_the_state_before(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(monkeypatch, 2)
    assert train(data, tmp_path, "sftnet-tiny") == 130
    before = (tmp_path / "state.pt").read_bytes()

    def full(state: object, path: Path) -> None:  # noqa: ARG001
        path.write_bytes(b"some")
        raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        assert train(data, tmp_path, "sftnet-tiny") == AllfocusError.exit_code
    assert "the disk is full, or fails" in capsys.readouterr().err
    assert (tmp_path / "state.pt").read_bytes() == before
    assert not list(tmp_path.glob(".state*"))
    assert train(data, tmp_path, "sftnet-tiny") == 0


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        ("sftnet-tiny", ("--loss", "l2"), "loss: this recipe has no such option"),
        ("sftnet-tiny", ("--depths", "1,2"), "depths: this recipe has no such option"),
        ("didanet-tiny", ("--no-cycle",), "it knows auxiliary, depths, guidance, loss, offset"),
        ("didanet-tiny", ("--loss", "l1"), "expected l2 or wd with this recipe, got l1"),
        ("didanet-tiny", ("--depths", "1,99"), "depths: didanet-tiny has 2 blocks, got 99"),
        ("didanet-tiny", ("--scale", "2"), "--steps and --scale: give one of them"),
        ("didanet-tiny", ("--stages", "4"), "expected some of 1 to 3, got 4"),
        ("didanet-tiny", ("--epochs", "0,0,0"), "expected a stage of more than 0"),
        ("didanet-tiny", ("--schedule", "halving"), "expected constant or cosine"),
        ("didanet-tiny", ("--ema", "1"), "ema: expected 0 or more and under 1"),
        ("defocusgan-tiny", ("--labels",), "it knows adversary, mask, vgg"),
        ("apl-tiny", ("--crop", "36"), "side: expected a multiple of 8 pixels, got 36"),
        ("jdrl-reblur-tiny", (), "no recipe of a paper for it alone; use --recipe plain"),
        ("didanet-tiny", ("--recipe", "plain", "--keep", "-1"), "keep: expected a weight of 0 or"),
        ("didanet-tiny", ("--keep", "0.1"), "keep: this recipe has no such option"),
        ("didanet-tiny", (*MAPLESS, "--loss", "wd"), "loss: wd weighs pixels by the estimated map"),
        ("didanet-tiny", (*MAP_ALONE, "--keep", "1"), "keep: stage 1 compares maps alone"),
        ("didanet-tiny", (*MAP_ALONE, "--loss", "l1"), "loss: stage 1 compares maps alone"),
        ("apl-detect-tiny", ("--recipe", "plain", "--keep", "1"), "makes no picture sharp, of whi"),
        ("dualpixel-map-tiny", ("--recipe", "plain", "--keep", "1"), "makes no picture sharp, of"),
        ("dualpixel-map-tiny", ("--recipe", "plain", "--loss", "l1"), "makes no pictures, which a"),
        ("dualpixel-map-tiny", MAP_ALONE, "estimates no map first; leave stage 1 out"),
    ],
)
def test_wrong_use_is_told(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    more: tuple[str, ...],
    said: str,
) -> None:
    assert train(data, tmp_path, model, *more) == UsageError.exit_code
    assert said in capsys.readouterr().err


def test_without_keep_the_log_has_no_such_column(data: Path, tmp_path: Path) -> None:
    for name, more in (("without", ()), ("with", ("--keep", "0.2"))):
        given = ("--recipe", "plain", *more)
        assert train(data, tmp_path / name, "didanet-tiny", *given, steps=1) == 0
    ((without,), (kept,)) = log(tmp_path / "without"), log(tmp_path / "with")
    assert list(without) == ["step", "stage", "loss", "deblur", "map", "focus"]
    assert set(kept) - set(without) == {"keep"}
    assert kept["deblur"] == without["deblur"]  # of the same first step
    parts = sum(float(kept[name]) for name in ("deblur", "keep", "map"))
    assert float(kept["loss"]) == pytest.approx(parts, rel=1e-4)


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        ("didanet-tiny", (), ""),
        (
            "didanet-tiny",
            ("--loss", "l2", "--offset", "0.5", "--depths", "1,2", "--lr", "3e-4"),
            ". the paper's recipe with --depths 1,2, --loss l2, --lr 0.0003, --offset 0.5",
        ),
        (
            "didanet-tiny",
            ("--recipe", "plain", "--keep", "0.2", "--tints", "0.5", "--schedule", "constant"),
            ". plain recipe with --keep 0.2, --schedule constant, --tints 0.5",
        ),
        ("jdrl-unet-tiny", ("--recipe", "plain", "--lr", "2e-4"), ". plain recipe"),  # as it has it
        (
            "jdrl-unet-tiny",
            ("--no-cycle", "--no-mask"),
            ". the paper's recipe with --no-cycle, --no-mask",
        ),
        ("apl-detect-tiny", ("--labels",), ". the paper's recipe with --labels"),
    ],
)
def test_weights_say_what_was_chosen(
    data: Path, tmp_path: Path, model: str, more: tuple[str, ...], said: str
) -> None:
    assert train(data, tmp_path, model, *more, steps=1) == 0
    _, spec = checkpoint.load(model, tmp_path / f"{model}.safetensors")
    assert spec.weights.endswith(f"seed 0{said}")


def test_another_recipe_or_option_does_not_go_on_with_a_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path, "didanet-tiny", steps=1) == 0
    for more, said in (
        (("--recipe", "plain"), "recipe: 'paper' then, 'plain' now"),
        (("--loss", "l2"), "loss: '' then, 'l2' now"),
        (("--ema", "0.9"), "ema: 0.0 then, 0.9 now"),
    ):
        code = train(data, tmp_path, "didanet-tiny", *more, steps=1)
        assert code == CheckpointError.exit_code
        assert said in capsys.readouterr().err


def test_settings_that_a_state_does_not_name_were_at_their_defaults(
    data: Path, tmp_path: Path
) -> None:
    assert train(data, tmp_path, "didanet-tiny", steps=3) == 0
    rows = log(tmp_path)
    old = torch.load(tmp_path / "state.pt", weights_only=True)
    for name in ("recipe", "stages", "epoch_samples", "halve", "ema", "loss", "cycle", "mask"):
        del old["run"][name]
    torch.save(old, tmp_path / "state.pt")
    assert train(data, tmp_path, "didanet-tiny", steps=3) == 0
    assert log(tmp_path) == rows
