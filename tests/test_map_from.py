"""`allfocus deblur --map-from`: maps of blur radii that are given as files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import allfocus
from allfocus import cli
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pictures.metadata import stored, upright
from allfocus.runtime.pictures.radius import MAP_UNITS, coded, read_radius

NANO = ("--model", "didanet-nano", "--backend", "cpu", "--precision", "fp32", "--threads", "1")
SIZE = (64, 96)


def photo(path: Path, size: tuple[int, int] = SIZE) -> np.ndarray:
    data = Path(allfocus.__file__).parent / "data" / "chelsea.png"
    frame = cv2.GaussianBlur(cv2.imread(str(data)), (0, 0), 2)[40 : 40 + size[0], : size[1]]
    cv2.imwrite(str(path), frame)
    return frame


def half(path: Path, size: tuple[int, int] = SIZE) -> None:
    """5 pixels on the right."""
    radius = np.zeros(size, np.float32)
    radius[:, size[1] // 2 :] = 5
    cv2.imwrite(str(path), coded(radius))


def deblur(*words: object) -> int:
    return cli.main(["deblur", *(str(word) for word in words), *NANO])


def test_a_map_that_was_written_gives_the_same_picture_again(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", (65, 99))
    assert deblur(tmp_path / "a.png", "-o", tmp_path / "own", "--map") == 0
    made = tmp_path / "own" / "a-defocus.png"
    assert deblur(tmp_path / "a.png", "-o", tmp_path / "one.png", "--map-from", made) == 0
    assert deblur(tmp_path / "a.png", "-o", tmp_path / "two", "--map-from", made.parent) == 0
    own, one, two = (
        cv2.imread(str(tmp_path / name)).astype(int)
        for name in ("own/a.png", "one.png", "two/a.png")
    )
    np.testing.assert_array_equal(one, two)
    assert np.abs(own - one)[:-16, :-16].max() <= 2  # the map has 8 bits below a pixel
    assert np.abs(own - cv2.imread(str(tmp_path / "a.png"))).max() > 10


def test_maps_of_folders_lie_where_their_pictures_do(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        photo(tmp_path / "in" / name / "x.png")
    words = ("--recursive", "-o")
    assert deblur(tmp_path / "in", *words, tmp_path / "own", "--map") == 0
    half(tmp_path / "own" / "b" / "x-defocus.png")
    maps = ("--map-from", tmp_path / "own")
    assert deblur(tmp_path / "in", *words, tmp_path / "out", *maps, "--map") == 0
    first, second = (
        cv2.imread(str(tmp_path / "out" / name / "x-defocus.png"), cv2.IMREAD_UNCHANGED)
        for name in ("a", "b")
    )
    assert not second[:, :48].any()
    assert first[:, :48].any()


def test_maps_may_lie_beside_their_pictures(tmp_path: Path) -> None:
    """They are not pictures to do."""
    (tmp_path / "in").mkdir()
    photo(tmp_path / "in" / "x.png")
    half(tmp_path / "in" / "x-defocus.png")
    maps = ("--map-from", tmp_path / "in")
    assert deblur(tmp_path / "in", "-o", tmp_path / "out", *maps) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.png"]


def test_folders_of_pictures_and_their_maps_get_new_maps_too(tmp_path: Path) -> None:
    """The maps among the inputs are none of them, so that nothing would be written twice."""
    photo(tmp_path / "a.png")
    half(tmp_path / "a-defocus.png")
    out = tmp_path / "out"
    assert deblur(tmp_path, "-o", out, "--map", "--map-from", tmp_path) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a-defocus.png", "a.png"]


def test_maps_of_a_run_with_a_suffix_are_found(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    first, second = tmp_path / "first", tmp_path / "second"
    assert deblur(tmp_path / "a.png", "-o", first, "--suffix=-sharp", "--map") == 0
    words = ("--suffix=-sharp", "--map-from", first)
    assert deblur(tmp_path / "a.png", "-o", second, *words) == 0
    one, other = (cv2.imread(str(f / "a-sharp.png")).astype(int) for f in (first, second))
    assert np.abs(one - other).max() <= 2  # the map has steps of 1/256 of a pixel
    assert deblur(tmp_path / "a.png", "-o", tmp_path / "third", "--map-from", first) == 2


def test_json_says_which_map_was_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "a.png")
    half(tmp_path / "m.png")
    words = ("-o", tmp_path / "out", "--map-from", tmp_path / "m.png", "--json")
    assert deblur(tmp_path / "a.png", *words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"][0]["map_from"] == str(tmp_path / "m.png")
    assert (said["precision"], said["not_tried"]) == ("fp32", 0)


def test_a_mended_map_is_believed(tmp_path: Path) -> None:
    frame = photo(tmp_path / "a.png")
    half(tmp_path / "mended.png")
    words = ("--map-from", tmp_path / "mended.png", "--map")
    assert deblur(tmp_path / "a.png", "-o", tmp_path / "out", *words) == 0
    made = cv2.imread(str(tmp_path / "out" / "a.png"))
    np.testing.assert_array_equal(made[:, :48], frame[:, :48])
    assert (made[:, 48:] != frame[:, 48:]).mean() > 0.5
    written = cv2.imread(str(tmp_path / "out" / "a-defocus.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(
        written, cv2.imread(str(tmp_path / "mended.png"), cv2.IMREAD_UNCHANGED)
    )


@pytest.mark.parametrize("value", range(1, 9))
def test_what_is_stored_turned_is_laid_back(value: int) -> None:
    plane = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(upright(stored(plane, value), value), plane)


@pytest.mark.parametrize("value", [3, 6, 8])
def test_the_map_of_a_turned_photo(tmp_path: Path, value: int) -> None:
    """One without a label is upright, as a viewer shows the photo; one with its label lies as the
    photo is stored."""
    frame = photo(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(stored(frame, value)[..., ::-1]).save(tmp_path / "a.png", exif=exif)
    half(tmp_path / "up.png")
    plain = read_radius(tmp_path / "up.png", 1)
    Image.fromarray(coded(stored(plain, value))).save(tmp_path / "as.png", exif=exif)
    for name in ("up", "as"):
        out = tmp_path / f"{name}-out.png"
        words = ("--map-from", tmp_path / f"{name}.png")
        assert deblur(tmp_path / "a.png", "-o", out, *words) == 0
        made = upright(
            cv2.imread(str(out), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION), value
        )
        np.testing.assert_array_equal(made[:, :48], frame[:, :48])
        assert (made[:, 48:] != frame[:, 48:]).mean() > 0.5
    other = Image.Exif()
    other[0x0112] = 6 if value != 6 else 3
    Image.fromarray(coded(plain)).save(tmp_path / "odd.png", exif=other)
    with pytest.raises(InputError, match="turned otherwise than its picture"):
        read_radius(tmp_path / "odd.png", value)


def test_radii_come_back() -> None:
    radii = np.array([[0, 0.5, 7.25, 300.0]], np.float32)
    np.testing.assert_array_equal(coded(radii) / MAP_UNITS, [[0, 0.5, 7.25, 65535 / MAP_UNITS]])


def test_what_is_no_map_is_one_failing_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "a.png")
    bad = {
        "grey8.png": (np.zeros(SIZE, np.uint8), "expected 16-bit grey"),
        "color.png": (np.zeros((*SIZE, 3), np.uint16), "expected 16-bit grey"),
        "small.png": (np.zeros((32, 32), np.uint16), "of the frame, [64, 96], got [32, 32]"),
        "white.png": (np.full(SIZE, 65535, np.uint16), "this one reaches 256 pixels, where 64 is"),
    }
    for name, (pixels, said) in bad.items():
        cv2.imwrite(str(tmp_path / name), pixels)
        words = ("-o", tmp_path / "out", "--map-from", tmp_path / name)
        assert deblur(tmp_path / "a.png", *words) == 1
        assert said in capsys.readouterr().err
    (tmp_path / "text.png").write_text("no picture")
    assert deblur(tmp_path / "a.png", "-o", "out", "--map-from", tmp_path / "text.png") == 1


def test_wrong_use_is_told_before_any_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    half(tmp_path / "a-defocus.png")
    a, b = tmp_path / "a.png", tmp_path / "b.png"

    def refused(*words: object) -> str:
        assert deblur(*words) == UsageError.exit_code
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    out, maps = ("-o", tmp_path / "out"), "--map-from"
    assert "expected a folder with a map" in refused(a, b, *out, maps, tmp_path / "a-defocus.png")
    assert "no picture is left, but maps" in refused(a, *out, maps, a)
    assert "got nothing there" in refused(a, b, *out, maps, tmp_path / "none")
    assert f"{b}: no map {tmp_path / 'b-defocus.png'}" in refused(a, b, *out, maps, tmp_path)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        photo(tmp_path / folder / "a.png")
    both = [tmp_path / "one" / "a.png", tmp_path / "one" / "a.jpg"]
    photo(both[1])
    assert "would both be done by" in refused(*both, *out, maps, tmp_path)
    words = ("-o", tmp_path, "--map", "--overwrite", maps, tmp_path)
    assert cli.main(["deblur", str(a), *map(str, words), *NANO]) == UsageError.exit_code
    assert "a-defocus.png would be written over" in capsys.readouterr().err
    lite = ("--model", "jdrl-unet-lite", "--backend", "cpu", "--precision", "fp32")
    words = (a, *out, maps, tmp_path / "a-defocus.png")
    assert cli.main(["deblur", *map(str, words), *lite]) == UsageError.exit_code
    assert "jdrl-unet-lite takes no map from outside" in capsys.readouterr().err
