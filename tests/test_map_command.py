"""`allfocus map`: from the views of a dual-pixel sensor to maps that pictures are made sharp by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import allfocus.runtime.views
from allfocus import cli
from allfocus.runtime import map_command
from allfocus.runtime.errors import UsageError
from allfocus.runtime.map_jobs import plan_views
from allfocus.runtime.pictures.radius import MAP_UNITS, read_radius
from allfocus.train.evaluation_pair import Pair
from allfocus.train.evaluation_scenes import available, photograph

CPU = ("--backend", "cpu", "--precision", "fp32", "--threads", "1")


@pytest.fixture(scope="module")
def scene() -> Pair:
    scene = next(each for each in available()[0] if each.name == "coffee-front")
    return photograph(scene, views=True)


def write(pair: Pair, folder: Path, name: str = "a.png") -> None:
    for kind in ("blurry", "left", "right"):
        path = folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), getattr(pair, kind)[..., ::-1])


def make(*words: object) -> int:
    return cli.main(["map", *map(str, words), *CPU])


def small(folder: Path, *names: str) -> Path:
    """Two folders with noise of those names."""
    rng = np.random.default_rng(0)
    for name in names:
        for kind in ("left", "right"):
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, 255, (64, 64, 3), np.uint8))
    return folder


def test_the_views_of_a_scene_tell_its_blur_and_make_it_sharp(
    scene: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(scene, tmp_path)
    assert make(tmp_path / "left", tmp_path / "right", "-o", tmp_path / "maps", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == "dualpixel-map-lite"
    assert told["failed"] == []
    made = tmp_path / "maps" / "a-defocus.png"
    assert [each["map"] for each in told["maps"]] == [str(made)]
    assert scene.radius is not None
    truth = scene.radius.clip(0, 8)
    error = np.abs(read_radius(made, 1).clip(0, 8) - truth).mean()
    assert error < 0.5 * np.abs(truth - np.median(truth)).mean()
    sharp = ("--model", "didanet-nano", *CPU, "--map-from", str(made.parent))
    words = ["deblur", str(tmp_path / "blurry"), "-o", str(tmp_path / "sharp"), *sharp]
    assert cli.main(words) == 0
    assert scene.sharp is not None
    wanted = scene.sharp.astype(int)
    errors = [
        float(((cv2.imread(str(tmp_path / kind / "a.png"))[..., ::-1] - wanted) ** 2).mean())
        for kind in ("sharp", "blurry")
    ]
    assert errors[0] < 0.9 * errors[1]


def test_views_that_do_not_differ_are_in_focus(scene: Pair, tmp_path: Path) -> None:
    write(scene, tmp_path)
    left, right = (tmp_path / kind / "a.png" for kind in ("left", "right"))
    assert make(left, right, "-o", tmp_path / "there.png") == 0
    shutil.copy(left, right)
    assert make(left, right, "-o", tmp_path / "same.png") == 0
    there, same = (read_radius(tmp_path / f"{name}.png", 1) for name in ("there", "same"))
    assert same.mean() < 0.5 * there.mean()


def test_a_large_picture_is_seen_as_well_as_a_small_one(
    scene: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In tiles, and reduced too: as if it had thousands of pixels a side."""
    write(scene, tmp_path)
    views = (tmp_path / "left", tmp_path / "right")
    assert make(*views, "-o", tmp_path / "whole") == 0
    monkeypatch.setattr(allfocus.runtime.views, "TILE", 224)
    monkeypatch.setattr(allfocus.runtime.views, "_SMALL", 50_000)
    assert make(*views, "-o", tmp_path / "parts") == 0
    whole, parts = (
        read_radius(tmp_path / name / "a-defocus.png", 1).clip(0, 8) for name in ("whole", "parts")
    )
    assert scene.radius is not None
    truth = scene.radius.clip(0, 8)
    errors = [float(np.abs(radius - truth).mean()) for radius in (whole, parts)]
    assert errors[1] < 1.5 * errors[0]


def test_maps_keep_the_orientation_of_their_views(tmp_path: Path) -> None:
    small(tmp_path, "a.png")
    for kind in ("left", "right"):
        exif = Image.Exif()
        exif[274] = 6
        with Image.open(tmp_path / kind / "a.png") as view:
            view.crop((0, 0, 64, 32)).save(tmp_path / kind / "a.jpg", exif=exif)
        (tmp_path / kind / "a.png").unlink()
    assert make(tmp_path / "left", tmp_path / "right", "-o", tmp_path / "maps") == 0
    made = tmp_path / "maps" / "a-defocus.png"
    assert read_radius(made, 6).shape == (32, 64)
    with Image.open(made) as image:
        assert image.getexif()[274] == 6
        assert np.asarray(image).max() <= 64 * MAP_UNITS


def test_a_view_that_cannot_be_read_is_told_and_the_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small(tmp_path, "a.png", "b.png", "c.png", "d.png")
    (tmp_path / "right" / "b.png").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "right" / "c.png"), np.zeros((64, 65, 3), np.uint8))
    with Image.open(tmp_path / "right" / "d.png") as view:
        exif = Image.Exif()
        exif[274] = 3
        view.save(tmp_path / "right" / "d.png", exif=exif)
    assert make(tmp_path / "left", tmp_path / "right", "-o", tmp_path / "maps") == 1
    told = capsys.readouterr().err
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["a-defocus.png"]
    assert "of one size and type" in told
    assert "turned differently (EXIF orientation 1 and 3)" in told
    assert "3 of 4 maps failed" in told


def test_a_view_for_which_there_is_no_memory_is_told_and_the_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small(tmp_path, "a.png", "b.png")
    real = map_command.radius_of_views

    def scarce(*_: object) -> np.ndarray:
        monkeypatch.setattr(map_command, "radius_of_views", real)
        raise MemoryError

    monkeypatch.setattr(map_command, "radius_of_views", scarce)
    assert make(tmp_path / "left", tmp_path / "right", "-o", tmp_path / "maps") == 1
    assert f"{tmp_path / 'left' / 'a.png'}: " in capsys.readouterr().err
    assert (tmp_path / "maps" / "b-defocus.png").is_file()


def test_where_nobody_reads_what_is_told_the_maps_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(tmp_path, "a.png", "b.png")

    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(map_command.tqdm, "write", gone)
    assert make(tmp_path / "left", tmp_path / "right", "-o", tmp_path / "maps") == 0
    assert len(list((tmp_path / "maps").iterdir())) == 2


def test_8_bits_are_not_offered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small(tmp_path, "a.png")
    words = (tmp_path / "left", tmp_path / "right", "-o", tmp_path / "maps")
    assert make(*words, "--precision", "int8") == 2
    assert "'auto', 'fp32', 'fp16', 'bf16'" in capsys.readouterr().err.replace('"', "'")


@pytest.mark.parametrize("model", ["didanet-nano", "jdrl-reblur"])
def test_models_that_take_no_views_are_refused(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small(tmp_path, "a.png")
    words = (tmp_path / "left", tmp_path / "right", "-o", tmp_path / "maps")
    assert make(*words, "--model", model) == 2
    assert "such as dualpixel-map-lite" in capsys.readouterr().err
    assert not (tmp_path / "maps").exists()


def planned(folder: Path, out: Path | None = None, **options: bool) -> list[str]:
    options = {"recursive": False, "overwrite": False} | options
    jobs = plan_views(folder / "left", folder / "right", out or folder / "maps", **options)
    assert all(job.left.name == job.right.name for job in jobs)
    return [str(job.target.relative_to(out or folder / "maps")) for job in jobs]


def test_maps_lie_as_their_views_do(tmp_path: Path) -> None:
    small(tmp_path, "a.png", "s/b.jpg")
    assert planned(tmp_path) == ["a-defocus.png"]
    assert planned(tmp_path, recursive=True) == ["a-defocus.png", "s/b-defocus.png"]


def test_views_without_another_are_refused(tmp_path: Path) -> None:
    small(tmp_path, "a.png", "b.png")
    (tmp_path / "right" / "b.png").rename(tmp_path / "right" / "c.png")
    with pytest.raises(UsageError, match=r"left/b\.png: no other view of that name in .*right;"):
        planned(tmp_path)
    (tmp_path / "left" / "b.png").unlink()
    with pytest.raises(UsageError, match=r"right/c\.png: no other view of that name in .*left;"):
        planned(tmp_path)


def test_a_file_and_a_folder_are_no_two_views(tmp_path: Path) -> None:
    small(tmp_path, "a.png")
    with pytest.raises(UsageError, match=r"is a file and .* a folder: expected two files, or two"):
        plan_views(
            tmp_path / "left",
            tmp_path / "right" / "a.png",
            tmp_path,
            recursive=False,
            overwrite=False,
        )


def test_maps_are_not_written_over_nor_over_each_other(tmp_path: Path) -> None:
    small(tmp_path, "a.png")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a-defocus.png").touch()
    with pytest.raises(UsageError, match=r"is there already: .*--overwrite"):
        planned(tmp_path)
    assert planned(tmp_path, overwrite=True) == ["a-defocus.png"]
    small(tmp_path, "a.jpg")
    with pytest.raises(UsageError, match=r"would both be written to .*a-defocus\.png"):
        planned(tmp_path, overwrite=True)


def test_maps_beside_views_are_no_views(tmp_path: Path) -> None:
    small(tmp_path, "a.png", "a-defocus.png", "b-defocus.png")
    assert planned(tmp_path) == ["a-defocus.png", "b-defocus-defocus.png"]


def test_maps_may_lie_in_a_folder_of_the_views(tmp_path: Path) -> None:
    small(tmp_path, "a.png")
    for kind in ("left", "right"):
        out = tmp_path / kind / "maps"
        out.mkdir()
        (out / "a-defocus.png").touch()
        options = {"recursive": True, "overwrite": True}
        assert planned(tmp_path, out, **options) == ["a-defocus.png"]
        shutil.rmtree(out)


def test_views_are_not_written_over(tmp_path: Path) -> None:
    small(tmp_path, "a.png")
    left, right = (tmp_path / kind / "a.png" for kind in ("left", "right"))
    for out in (left, right):
        with pytest.raises(UsageError, match="is a view, and would be written over"):
            plan_views(left, right, out, recursive=False, overwrite=True)


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [
        ("left/b.png", "right/a.png", r"left/b\.png: no such file or folder"),
        ("left", "rihgt", "rihgt: no such file or folder"),
        ("left", "left", "left: given twice"),
        ("left/a.png", "left/a.png", r"a\.png: given twice"),
    ],
)
def test_what_cannot_be_two_views(left: str, right: str, told: str, tmp_path: Path) -> None:
    small(tmp_path, "a.png")
    paths = (tmp_path / left, tmp_path / right)
    with pytest.raises(UsageError, match=told):
        plan_views(*paths, tmp_path / "maps", recursive=False, overwrite=False)


def test_a_mistyped_name_of_a_map_makes_no_folder(tmp_path: Path) -> None:
    left, right = (small(tmp_path, "a.png") / kind / "a.png" for kind in ("left", "right"))
    with pytest.raises(UsageError, match=r"no picture is written with the suffix \.pgn"):
        plan_views(left, right, tmp_path / "map.pgn", recursive=False, overwrite=False)


def test_maps_are_png(tmp_path: Path) -> None:
    left, right = (small(tmp_path, "a.png") / kind / "a.png" for kind in ("left", "right"))
    with pytest.raises(UsageError, match=r"map\.jpg: maps are PNG"):
        plan_views(left, right, tmp_path / "map.jpg", recursive=False, overwrite=False)
