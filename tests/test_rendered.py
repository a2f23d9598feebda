"""Samples rendered once: what a folder holds is what was drawn, and what is wrong is named."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from allfocus import cli
from allfocus.runtime.errors import AllfocusError, InputError, UsageError
from allfocus.train import store
from allfocus.train.data import DEAD_LEAVES, find, hold_out, make_samples
from allfocus.train.data_render import add_arguments, run
from allfocus.train.photo_samples import PhotoSamples
from allfocus.train.rendered import RenderedSamples, find_rendered, render_into
from allfocus.train.split import hold_out_scenes
from allfocus.train.store import ABOUT
from allfocus.train.synthetic import Recipe, Sample, rich

RECIPE = replace(rich(4.0), beyond_radius=5.0)
COUNT, SIDE = 6, 24


def fill(folder: Path, recipe: Recipe = RECIPE) -> PhotoSamples:
    samples = PhotoSamples([], SIDE, 3, recipe)
    assert list(render_into(folder, samples, COUNT, 0)) == list(range(1, COUNT + 1))
    return samples


def values(sample: Sample) -> NDArray[np.float32]:
    """All numbers of a sample in an order that turning it does not change."""
    assert sample.seen is not None
    parts = (sample.blurry, sample.sharp, sample.radius, sample.seen)
    return np.concatenate([np.sort(part, axis=None) for part in parts])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    fill(folder)
    return folder


def test_a_whole_sample_is_what_was_drawn_turned(folder: Path) -> None:
    samples = PhotoSamples([], SIDE, 3, RECIPE)
    drawn = [values(samples[i]) for i in range(COUNT)]
    kept = RenderedSamples(find_rendered(folder), SIDE, 0)
    for index in range(10):
        given = values(kept[index])
        assert min(float(np.abs(given - wanted).max()) for wanted in drawn) < 3e-3


def test_crops_are_aligned_and_depend_on_seed_and_index_alone(folder: Path) -> None:
    items = find_rendered(folder)
    first, again = (RenderedSamples(items, 10, 5)[7] for _ in range(2))
    np.testing.assert_array_equal(first.blurry, again.blurry)
    assert first.blurry.shape == first.sharp.shape == (10, 10, 3)
    assert first.seen is not None
    assert first.radius.shape == first.seen.shape == (10, 10)
    sharp = RenderedSamples(items, 10, 5)
    same = total = 0
    for index in range(40):  # in focus, a picture and its truth are one, but for what spills over
        sample = sharp[index]
        still = sample.in_focus & (sample.radius < 0.4)
        same += int(np.isclose(sample.blurry, sample.sharp, atol=1 / 255).all(axis=2)[still].sum())
        total += int(still.sum())
    assert same > 0.9 * total > 0


def test_samples_of_before_know_the_front_most_radius_alone(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "seen.npy").unlink()
    sample = RenderedSamples(find_rendered(tmp_path), 16, 0)[0]
    assert sample.seen is None
    np.testing.assert_array_equal(sample.in_focus, sample.radius < 0.5)


def test_views_and_a_moved_picture_are_kept(tmp_path: Path) -> None:
    fill(tmp_path / "all", replace(RECIPE, views=True, misaligned=True))
    samples = RenderedSamples(find_rendered(tmp_path / "all"), 16, 0)
    assert samples.has_views
    sample = samples[0]
    assert sample.left is not None
    assert sample.right is not None
    assert sample.moved is not None
    assert sample.left.shape == sample.moved.shape == (16, 16, 3)
    assert sample.seen is not None
    assert sample.seen.shape == (16, 16)


def test_training_finds_them_and_holds_some_back(folder: Path) -> None:
    items = find(folder)
    kept, held = hold_out(items)
    assert (len(kept), len(held)) == (5, 1)
    samples = make_samples(held, 16, 0, RECIPE)
    assert isinstance(samples, RenderedSamples)
    assert len(samples) == 1


def test_a_crop_larger_than_the_samples_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="24 pixels wide, less than the crop of 32"):
        RenderedSamples(find_rendered(folder), 32, 0)


def test_a_folder_that_is_not_empty_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="not empty"):
        next(render_into(folder, PhotoSamples([], SIDE, 3, RECIPE), 1, 0))


def test_a_folder_broken_off_holds_nothing_and_can_be_filled(tmp_path: Path) -> None:
    steps = render_into(tmp_path, PhotoSamples([], SIDE, 3, RECIPE), COUNT, 0)
    next(steps)
    assert len(list(tmp_path.iterdir())) == 4
    steps.close()
    assert list(tmp_path.iterdir()) == []
    fill(tmp_path)


def test_what_a_kill_left_is_told_from_samples_and_from_photos(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = tmp_path / "left"
    shutil.copytree(folder, left)
    (left / ABOUT).unlink()  # it is written last
    with pytest.raises(InputError, match="has not finished, for it was killed or is still at work"):
        find(left)
    assert cli.main(["data", "check", str(left)]) == 1
    assert "remove the folder and render it again" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_scheduler_that_ends_it_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        pytest.skip("these tests run under nohup, and what is ignored stays so")
    draw = PhotoSamples.__getitem__

    def ended(samples: PhotoSamples, index: int) -> Sample:
        if index == 2:
            os.kill(os.getpid(), number)
        return draw(samples, index)

    monkeypatch.setattr(PhotoSamples, "__getitem__", ended)
    words = ("--count", "6", "--side", "16", "--max-radius", "2", "--workers", "0")
    with pytest.raises(KeyboardInterrupt):
        command("dead-leaves", "--out", str(tmp_path / "out"), *words)
    assert signal.getsignal(number) == before
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, InputError])
def test_an_error_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    draw = PhotoSamples.__getitem__

    def failing(samples: PhotoSamples, index: int) -> Sample:
        if index == 2:
            raise error
        return draw(samples, index)

    monkeypatch.setattr(PhotoSamples, "__getitem__", failing)
    with pytest.raises(error):
        fill(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_between_samples_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(made: Iterator[int], **_: object) -> Iterator[int]:
        yield next(made)
        raise KeyboardInterrupt

    monkeypatch.setattr("allfocus.train.data_render.tqdm", interrupted)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt) as stopped:  # which holds on to all that was running
        command(str(DEAD_LEAVES), "--out", str(out), "--side", "16", "--workers", "0")
    assert list(out.iterdir()) == []
    assert stopped.traceback


@pytest.mark.parametrize(
    "damage", ["cut", "count", "missing", "about", "empty", "archive", "kind", "list", "word"]
)
def test_a_damaged_folder_is_named(tmp_path: Path, damage: str) -> None:
    fill(tmp_path)
    about = json.loads((tmp_path / ABOUT).read_text())
    if damage == "cut":
        data = (tmp_path / "sharp.npy").read_bytes()
        (tmp_path / "sharp.npy").write_bytes(data[: len(data) // 2])
    elif damage == "count":
        (tmp_path / ABOUT).write_text(json.dumps({**about, "count": COUNT + 1}))
    elif damage == "missing":
        (tmp_path / "radius.npy").unlink()
    elif damage == "empty":
        (tmp_path / "radius.npy").write_bytes(b"")
    elif damage == "archive":
        with (tmp_path / "radius.npy").open("wb") as file:
            np.savez(file, radius=np.zeros((COUNT, SIDE, SIDE), np.float16))
    elif damage == "kind":
        np.save(tmp_path / "radius.npy", np.zeros((COUNT, SIDE, SIDE), np.float32))
    elif damage in ("list", "word"):
        text = "[]" if damage == "list" else json.dumps({**about, "count": "six"})
        (tmp_path / ABOUT).write_text(text)
    else:
        (tmp_path / ABOUT).write_text("{")
    with pytest.raises(InputError, match=r"render it again"):
        find_rendered(tmp_path)


def test_a_full_disk_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(AllfocusError, match=r"No space left.*smaller --count"):
        fill(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("count", ["99999999999999999999", "1000000000"])
def test_more_than_a_disk_holds_is_refused_before_any_folder_is_made(
    tmp_path: Path, count: str
) -> None:
    words = ("--out", str(tmp_path / "out"), "--count", count, "--side", "1000")
    with pytest.raises(AllfocusError, match=r"samples of 1000x1000 pixels take .* GB are free"):
        command(str(DEAD_LEAVES), *words, "--workers", "0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("views", "misaligned", "size"),
    [(False, False, 10), (False, True, 13), (True, False, 16), (True, True, 19)],
)
def test_the_bytes_of_a_pixel_are_those_that_are_told(
    tmp_path: Path, views: bool, misaligned: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = []
    check = store.check_space
    monkeypatch.setattr(store, "check_space", lambda *a: wanted.append(a[1]) or check(*a))
    fill(tmp_path, replace(RECIPE, views=views, misaligned=misaligned))
    arrays = store.open_store(tmp_path).arrays.values()
    assert sum(array.nbytes for array in arrays) == size * COUNT * SIDE**2
    assert wanted == [(size - 4) // 3]
    told = parser().format_help()
    assert "10 bytes a pixel on disk, 6 more with --views and 3 more with --misaligned" in told


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_arguments(made)
    return made


def command(*words: str) -> int:
    return run(parser().parse_args(words))


def test_photos_that_are_held_out_are_shown_by_no_other_sample(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for index in range(11):
        grey = 230 if index % 10 == 0 else 40
        assert cv2.imwrite(str(photos / f"{index:02}.png"), np.full((64, 64, 3), grey, np.uint8))
    words = ("--count", "45", "--side", "16", "--max-radius", "2", "--soft-share", "0")
    assert command(str(photos), "--out", str(out), *words, "--workers", "0", "--json") == 0
    about = json.loads((out / ABOUT).read_text())
    assert about["photos"] == [f"{index:02}.png" for index in range(11)]
    assert len(about["photos_fingerprint"]) == 16
    items = find_rendered(out)
    assert [item.index for item in items if item.held_out] == [41, 42, 43, 44]
    kept, held = hold_out_scenes(items)
    assert (kept, held) == (items[:41], items[41:])
    light = store.open_store(out).arrays["sharp"].mean(axis=(1, 2, 3))
    assert np.median(light[41:]) > 2 * np.median(light[:41])


def test_samples_that_hold_no_photo_apart_are_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hold_out_scenes(find_rendered(folder))
    assert "its samples all show the same photos" in caplog.text


def test_the_command_renders_without_a_photo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ("--count", "3", "--side", "16", "--max-radius", "3", "--workers", "0", "--json")
    assert command(str(DEAD_LEAVES), "--out", str(out), *words) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["samples"], result["side"]) == (3, 16)
    assert result["per_second"] > 0
    assert len(find_rendered(out)) == 3
    more = ("--count", "10", *words[2:])
    assert command(str(DEAD_LEAVES), "--out", str(tmp_path / "more"), *more) == 0
    assert [item.held_out for item in find_rendered(tmp_path / "more")] == [False] * 9 + [True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--jpeg-share", "1.5"), "--jpeg-share: expected 0 to 1"),
        (("--soft-share", "-0.1"), "--soft-share: expected 0 to 1, got -0.1"),
        (("--max-radius", "0"), "--max-radius: expected more than 0"),
        (("--max-radius", "inf"), "--max-radius: expected .* up to 256, got inf"),
        (("--max-radius", "nan"), "--max-radius: expected .* got nan"),
    ],
)
def test_wrong_numbers_are_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        command(str(DEAD_LEAVES), "--out", str(tmp_path / "out"), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--seed", "--workers"])
@pytest.mark.parametrize("word", ["-1", "1.5", "x"])
def test_what_is_no_number_of_things_is_refused(
    tmp_path: Path, option: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(str(DEAD_LEAVES), "--out", str(tmp_path / "out"), option, word)
    assert stopped.value.code == 2
    assert f"expected a whole number of at least 0, got '{word}'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("seed", "workers"), [(-1, 0), (0, -1)])
def test_a_callers_wrong_numbers_make_no_folder(tmp_path: Path, seed: int, workers: int) -> None:
    samples = PhotoSamples([], SIDE, seed, RECIPE)
    with pytest.raises(UsageError, match="expected a whole number of 0 or more, got -1"):
        next(render_into(tmp_path / "new", samples, 1, workers))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/new"):
        with pytest.raises(UsageError, match=rf"{out}: .*file is a file, where.*--out"):
            command(str(DEAD_LEAVES), "--out", str(tmp_path / out), "--workers", "0")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_is_full_at_the_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(AllfocusError, match=r"rendered\.json: No space left"):
        fill(tmp_path)
    assert list(tmp_path.iterdir()) == []


@given(st.floats(0.5, 256))
def test_what_lies_beyond_a_radius_is_larger(radius: float) -> None:
    """The generator of random numbers refuses to draw from a range that ends before it begins."""
    assert rich(radius).beyond_radius > radius


class Threads(PhotoSamples):
    """Tells how many threads OpenCV has where samples are made."""

    def __getitem__(self, index: int) -> Sample:
        radius = np.full((SIDE, SIDE), cv2.getNumThreads(), np.float32)
        return replace(super().__getitem__(index), radius=radius)


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("four_threads")
def test_each_worker_has_one_thread(tmp_path: Path) -> None:
    """More fight with each other, and a forked one waits for ever for its parent's."""
    given: dict[str, Any] = {"samples": Threads([], SIDE, 3, RECIPE), "count": 4, "workers": 2}
    assert len(list(render_into(tmp_path, **given))) == 4
    assert np.unique(np.load(tmp_path / "radius.npy")).tolist() == [1]


def test_what_is_rendered_already_is_not_rendered_again(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="blurred already"):
        command(str(folder), "--out", str(tmp_path / "out"))
