"""Maps made from pairs, against the maps the pairs were blurred with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from full_disk import full_after

from allfocus.cli import main
from allfocus.train.alone import alone
from allfocus.train.camera import Image, clip, to_srgb
from allfocus.train.data import find, make_samples
from allfocus.train.maps import Search, best_radius, estimate
from allfocus.train.pairs import read_map
from allfocus.train.psf import Aperture
from allfocus.train.render import Layer, convolve, render
from allfocus.train.scenes import leaves_texture
from allfocus.train.synthetic import Recipe

SIDE = 96


def scene(seed: int, near: float = 3.0) -> tuple[Image, Image, Image]:
    """Blurry and sharp picture and true radius: something at `near` before a ramp of blur."""
    rng = np.random.default_rng(seed)
    ramp = np.tile(np.linspace(0, 6, SIDE, dtype=np.float32), (SIDE, 1))
    cover = np.zeros((SIDE, SIDE), np.float32)
    cover[24:70, 16:50] = 1
    layers = [
        Layer(leaves_texture(rng, SIDE), np.ones_like(ramp), ramp),
        Layer(leaves_texture(rng, SIDE), cover, np.full_like(ramp, near)),
    ]
    blurry, sharp, radius = render(layers, Aperture())
    noisy = blurry + 0.003 * rng.standard_normal(blurry.shape, dtype=np.float32)
    return to_srgb(clip(noisy)), to_srgb(clip(sharp)), radius


def write(folder: Path, count: int = 2) -> None:
    for seed in range(count):
        for name, image in zip(("blurry", "sharp"), scene(seed), strict=False):
            (folder / name).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / name / f"{seed}.png"), np.rint(255 * image[..., ::-1]))


@pytest.mark.parametrize("seed", range(3))
def test_a_map_is_near_the_truth(seed: int) -> None:
    blurry, sharp, radius = scene(seed)
    made, confidence = estimate(blurry, sharp, Search(max_radius=9))
    assert np.abs(made - radius).mean() < 0.4
    assert 0 <= confidence.min() <= confidence.max() <= 1


def test_where_nothing_is_to_be_seen_the_surroundings_decide() -> None:
    blurry, sharp, _ = scene(0)
    whole = render(
        [Layer(sharp, np.ones((SIDE, SIDE), np.float32), np.full((SIDE, SIDE), 4, np.float32))],
        Aperture(),
    )[0]
    flat = sharp.copy()
    flat[30:60, 30:60] = 0.5
    blurry = whole.copy()
    blurry[36:54, 36:54] = 0.5
    made, confidence = estimate(blurry, flat, Search(max_radius=9))
    assert confidence[44:46, 44:46].max() < 0.1
    assert 2.0 < made[44:46, 44:46].mean() < 6.0


@pytest.mark.parametrize("radius", [0.0, 0.7, 0.8, 1.0, 1.3, 1.5, 2.0, 2.5, 3.3, 5.2, 7.7])
def test_one_blur_all_over_is_found(radius: float) -> None:
    sharp = leaves_texture(np.random.default_rng(2), SIDE).mean(axis=2).astype(np.float32)
    blurry = convolve(sharp, Aperture().kernel(radius))
    found, sure = best_radius(blurry, sharp, Search(max_radius=9))
    middle = (slice(12, -12),) * 2
    assert np.abs(found - radius)[middle][sure[middle] > 0.3].mean() < 0.1


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.5, 0.55])
def test_what_blurs_nothing_is_in_focus(radius: float) -> None:
    _, sharp, _ = scene(1)
    grey = sharp.mean(axis=2)
    for search in (Search(max_radius=4), Search(max_radius=1, step=1), Search(max_radius=0.5)):
        found, _ = best_radius(convolve(grey, Aperture().kernel(radius)), grey, search)
        assert found.max() == 0


def test_equal_pictures_are_in_focus() -> None:
    _, sharp, _ = scene(1)
    made, _ = estimate(sharp, sharp, Search(max_radius=4))
    assert made.max() < 0.3


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 4},
        {"window": 1},
        {"step": 0.0},
        {"step": 2.0},
        {"max_radius": 0.2},
        {"max_radius": 65.0},
        {"max_radius": float("inf")},
        {"max_radius": float("nan")},
    ],
)
def test_an_impossible_search_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Search(**wrong)  # type: ignore[arg-type]


def test_the_command_writes_maps_that_training_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    assert main(["data", "make-maps", str(tmp_path), "--max-radius", "9"]) == 0
    assert "2 maps" in capsys.readouterr().out
    made = read_map(tmp_path / "defocus" / "0.png", 8.0, "blurred")
    assert np.abs(made - scene(0)[2]).mean() < 0.4
    samples = make_samples(find(tmp_path), 32, 0, Recipe())
    assert samples.has_map
    assert 0 < samples[0].radius.max() < 9


def test_an_interrupted_run_is_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, 3)
    (tmp_path / "defocus").mkdir()
    kept = tmp_path / "defocus" / "1.png"
    cv2.imwrite(str(kept), np.full((SIDE, SIDE), 640, np.uint16))
    command = ["data", "make-maps", str(tmp_path), "--max-radius", "2"]
    assert main(command) == 0
    assert "2 maps" in (said := capsys.readouterr().out)
    assert "1 were there already, --overwrite" in said
    assert (read_map(kept, 8.0, "blurred") == 2.5).all()
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["made"], told["there"], told["confidence"]) == (0, 3, None)
    assert main(command) == 0
    assert "0 maps in" in (said := capsys.readouterr().out)
    assert "confidence" not in said
    (tmp_path / "defocus" / "0.png").unlink()
    assert main([*command, "--overwrite", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["made"], told["there"]) == (3, 0)
    assert (read_map(kept, 8.0, "blurred") != 2.5).any()


@pytest.mark.parametrize(
    ("blurry", "sharp", "beside", "why"),
    [
        ("test/blur", "test/gt", "test", "has no folder for maps"),
        ("image", "sharp", "filtered", "it looks in .*/filtered"),
    ],
)
def test_maps_where_training_does_not_look_need_a_folder(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    blurry: str,
    sharp: str,
    beside: str,
    why: str,
) -> None:
    write(tmp_path, 1)
    (tmp_path / beside).mkdir()
    (tmp_path / "blurry").rename(tmp_path / blurry)
    (tmp_path / "sharp").rename(tmp_path / sharp)
    command = ["data", "make-maps", str(tmp_path), "--max-radius", "2"]
    assert main(command) == 2
    assert re.search(why + r".*\. Give --out", capsys.readouterr().err)
    assert main([*command, "--out", str(tmp_path / "maps")]) == 0
    assert (tmp_path / "maps" / "0.png").exists()


def test_pairs_that_cannot_be_done_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    cv2.imwrite(str(tmp_path / "sharp" / "1.png"), np.zeros((9, 9, 3), np.uint8))
    assert main(["data", "make-maps", str(tmp_path), "--max-radius", "2"]) == 1
    said = capsys.readouterr().out
    assert "1.png: sizes differ: blurry/1.png" in said
    assert "sharp/1.png 9x9" in said
    assert "in order" not in said
    assert (tmp_path / "defocus" / "0.png").exists()


def test_pairs_by_order_alone_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    for path in sorted((tmp_path / "blurry").iterdir()):
        path.rename(path.with_name(f"x{chr(97 + int(path.stem))}.png"))
    assert main(["data", "make-maps", str(tmp_path), "--max-radius", "2"]) == 0
    assert "note: paired by their places in order" in capsys.readouterr().out


def test_a_folder_without_pairs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "make-maps", str(tmp_path)]) == 1
    assert "blurry/" in capsys.readouterr().err
    assert main(["data", "make-maps", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("word", ["0.2", "-3", "64.5", "100", "inf", "nan"])
def test_a_largest_blur_that_training_refuses_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    write(tmp_path, 1)
    assert main(["data", "make-maps", str(tmp_path), f"--max-radius={word}"]) == 2
    said = capsys.readouterr().err
    assert f"--max-radius: expected 0.5 to 64 pixels, got {float(word):g}" in said


def test_a_window_that_is_even_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, 1)
    assert main(["data", "make-maps", str(tmp_path), "--window", "4"]) == 2
    assert "--window: expected an odd number from 3 on, got 4" in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    command = ["data", "make-maps", str(tmp_path), "--max-radius", "2"]
    with full_after(2048):
        assert main(command) == 1
    assert "0.png: File too large" in capsys.readouterr().err
    assert not (tmp_path / "defocus").exists()  # where training would miss its maps
    assert main(command) == 0
    assert min(p.stat().st_size for p in (tmp_path / "defocus").iterdir()) > 2048


def test_drafts_of_a_killed_run_are_removed_and_never_taken_for_maps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    (tmp_path / "defocus").mkdir()
    draft = tmp_path / "defocus" / ".0-allfocus-0123abcd.png"
    draft.write_bytes(b"half")
    command = ["data", "make-maps", str(tmp_path), "--max-radius", "2"]
    assert main(command) == 0
    assert not draft.exists()
    draft.write_bytes(b"half")
    assert len(find(tmp_path)) == 2
    with alone(tmp_path / "defocus", "data make-maps"):
        assert main(command) == 2
    assert draft.exists()
    assert "another `allfocus data make-maps` writes there" in capsys.readouterr().err
