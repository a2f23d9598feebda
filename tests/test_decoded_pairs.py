"""Pairs that are kept decoded give the crops that they give from their files."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from full_disk import full_after
from recipe_runs import train

from allfocus.runtime.errors import InputError
from allfocus.train import decoded as decoded_module
from allfocus.train import pair_samples
from allfocus.train.data import Samples, find, make_samples
from allfocus.train.decoded import Decoded
from allfocus.train.pairs import read_rgb
from allfocus.train.synthetic import Recipe, Sample


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Four pairs of 64x48 pixels, with maps."""
    rng = np.random.default_rng(0)
    for kind, channels in (("blurry", 3), ("sharp", 3), ("defocus", 1)):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (48, 64, channels), np.uint8)
            cv2.imwrite(str(tmp_path / "pairs" / kind / f"{number}.png"), pixels)
    return tmp_path / "pairs"


def samples(pairs: Path, cache: Path | None = None, white: float = 8.0) -> Samples:
    return make_samples(find(pairs), 16, 3, Recipe(), white=white, decoded=Decoded(cache))


def same(one: Sample, other: Sample) -> bool:
    parts = ("blurry", "sharp", "radius")
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in parts)


def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decodes a picture fails."""

    def fail(*_: object) -> None:
        raise AssertionError

    for name in ("read_rgb", "read_map"):
        monkeypatch.setattr(pair_samples, name, fail)


def test_crops_are_the_same_and_files_are_decoded_once(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, kept = samples(pairs), samples(pairs, tmp_path / "cache")
    expected = [plain[index] for index in range(20)]
    assert all(same(kept[index], sample) for index, sample in enumerate(expected))
    assert len(list((tmp_path / "cache").iterdir())) == 12
    undecoded(monkeypatch)
    again = samples(pairs, tmp_path / "cache")  # as another worker, or a run that goes on
    assert all(same(again[index], sample) for index, sample in enumerate(expected))


def test_what_is_kept_is_mapped_and_not_read_whole(pairs: Path, tmp_path: Path) -> None:
    path = pairs / "blurry" / "0.png"
    for kind in (np.ndarray, np.memmap):
        found = Decoded(tmp_path / "cache").read(path, lambda: read_rgb(path))
        assert isinstance(found.base if kind is np.memmap else found, kind)
        np.testing.assert_array_equal(found, read_rgb(path))


def test_a_file_that_changed_is_read_again(pairs: Path, tmp_path: Path) -> None:
    path, cache = pairs / "sharp" / "1.png", Decoded(tmp_path / "cache")
    cache.read(path, lambda: read_rgb(path))
    cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    os.utime(path, (1, 1))
    assert not cache.read(path, lambda: read_rgb(path)).any()


def test_another_file_of_the_same_size_and_time_is_read(pairs: Path, tmp_path: Path) -> None:
    path, cache = pairs / "sharp" / "a.bmp", Decoded(tmp_path / "cache")
    for value in (10, 200):
        cv2.imwrite(str(path), np.full((20, 20, 3), value, np.uint8))
        os.utime(path, (1, 1))
        assert (cache.read(path, lambda: read_rgb(path)) == value).all()


def test_maps_of_another_range_are_others(pairs: Path, tmp_path: Path) -> None:
    one, other = (samples(pairs, tmp_path / "cache", white)[0] for white in (8.0, 4.0))
    np.testing.assert_allclose(one.radius, 2 * other.radius, rtol=1e-6)


def test_what_was_cut_short_is_read_again(pairs: Path, tmp_path: Path) -> None:
    expected = samples(pairs, tmp_path / "cache")[0]
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert same(samples(pairs, tmp_path / "cache")[0], expected)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(b"")
    assert same(samples(pairs, tmp_path / "cache")[0], expected)


def test_a_full_disk_is_told_once_and_training_goes_on(
    pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept, expected = samples(pairs, tmp_path / "cache"), samples(pairs)
    with caplog.at_level(logging.WARNING), full_after(500):
        assert all(same(kept[index], expected[index]) for index in range(8))
    (told,) = caplog.messages
    assert "choose another place with --cache; what is not there yet is decoded" in told
    assert not list((tmp_path / "cache").iterdir())


def test_room_is_left_for_what_a_run_writes(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept, expected = samples(pairs, tmp_path / "cache"), samples(pairs)
    free = 2**30 + 3 * 48 * 64 + 100  # for one of the pictures
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with caplog.at_level(logging.WARNING):
        assert kept[0].sharp.shape == (16, 16, 3)
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free - 9999))
        assert all(same(kept[index], expected[index]) for index in range(8))
    (told,) = caplog.messages
    assert "less than 1.0 GiB of that disk would be left" in told


def test_names_of_any_length_are_kept(pairs: Path, tmp_path: Path) -> None:
    path = pairs / "sharp" / f"{'a' * 240}.png"
    cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))
    Decoded(tmp_path / "cache").read(path, lambda: read_rgb(path))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_what_killed_runs_left_is_removed(tmp_path: Path) -> None:
    old, new = tmp_path / ".a-allfocus-01234567.npy", tmp_path / ".b-allfocus-01234567.npy"
    own = tmp_path / ".a-picture.npy"
    for path in (old, new, own):
        path.write_bytes(b"half")
    for path in (old, own):
        os.utime(path, (1, 1))
    Decoded(tmp_path)
    assert (old.exists(), new.exists(), own.exists()) == (False, True, True)


def test_photos_have_nothing_to_keep(
    pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(pairs / "sharp", tmp_path / "run", "didanet-tiny", "--cache", str(tmp_path / "cache"))
    assert "--cache: nothing to keep" in caplog.text


def test_what_cannot_be_read_is_not_kept(pairs: Path, tmp_path: Path) -> None:
    cache = Decoded(tmp_path / "cache")
    (pairs / "blurry" / "0.png").write_bytes(b"no picture")
    for name in ("0.png", "none.png"):
        path = pairs / "blurry" / name
        with pytest.raises(InputError):
            cache.read(path, lambda path=path: read_rgb(path))  # type: ignore[misc]
    assert not (tmp_path / "cache").exists()


def test_training_takes_a_folder(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    more = ["--cache", str(tmp_path / "cache"), "--workers", "0"]
    assert train(pairs, tmp_path / "one", "didanet-tiny", *more) == 0
    assert len(list((tmp_path / "cache").iterdir())) >= 3
    undecoded(monkeypatch)
    assert train(pairs, tmp_path / "two", "didanet-tiny", *more) == 0
    (tmp_path / "file").touch()
    assert train(pairs, tmp_path / "x", "didanet-tiny", "--cache", str(tmp_path / "file")) == 2
    assert "--cache" in capsys.readouterr().err
    assert decoded_module.Decoded().read(tmp_path, lambda: np.zeros(1)).shape == (1,)
