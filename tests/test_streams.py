"""Picture files as a stream, and the counters' address."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams.counters import Counters
from allfocus.runtime.streams.endpoint import Endpoint
from allfocus.runtime.streams.files import PictureFiles, PictureFolder
from allfocus.runtime.streams.ladder import pass_through
from allfocus.runtime.streams.simple import Frames


def test_pictures_go_through_and_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = [(6, 8, 3), (9, 5), (4, 4, 4), (7, 7, 3)]
    paths = [tmp_path / f"{index}.png" for index in range(len(shapes))]
    pictures = [rng.integers(0, 256, shape).astype(np.uint8) for shape in shapes]
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(str(path), picture)
    paths[3].write_bytes(paths[3].read_bytes()[:60])
    source = PictureFiles([*paths, tmp_path / "missing.png"])
    assert source.total == 5
    out = tmp_path / "out"
    report = Pipeline(source, lambda image: Result(255 - image, None, {}), PictureFolder(out)).run()
    assert (report.frames, report.damaged) == (3, 2)
    for index in range(3):
        found = cv2.imread(str(out / f"{index}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(found, 255 - pictures[index])
    assert len(list(out.iterdir())) == 3


def test_grey_with_alpha_keeps_its_alpha(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="OpenCV writes no grey with alpha")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 2)).astype(np.uint8)
    image.fromarray(pixels, "LA").save(tmp_path / "x.png")
    sink = PictureFolder(tmp_path / "out")
    Pipeline(
        PictureFiles([tmp_path / "x.png"]), lambda grey: Result(255 - grey, None, {}), sink
    ).run()
    found = np.asarray(image.open(tmp_path / "out" / "x.png"))
    np.testing.assert_array_equal(found, np.dstack((255 - pixels[..., 0], pixels[..., 1])))


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "x.png"), np.zeros((2, 2, 3), np.uint8))
    source = PictureFiles([tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"])
    with pytest.raises(UsageError, match=r"would both be written"):
        Pipeline(source, pass_through, PictureFolder(tmp_path / "out")).run()


def test_frames_of_no_file_are_numbered(tmp_path: Path) -> None:
    pictures = [np.zeros((2, 2, 3), np.uint8)] * 2
    Pipeline(Frames(pictures), pass_through, PictureFolder(tmp_path)).run()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000.png", "000001.png"]


def test_a_folder_gives_its_pictures_by_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", ".hidden.png", "deep/c.png", "A.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "notes.txt").touch()
    for given in (tmp_path, str(tmp_path), [tmp_path]):
        source = PictureFiles(given)
        assert source.total == 3
        assert [f.origin.path.name for f in source.frames()] == [  # type: ignore[union-attr]
            "A.PNG",
            "a.png",
            "b.png",
        ]
    assert PictureFiles(tmp_path / "b.png").total == 1
    assert PictureFiles([tmp_path / "b.png", tmp_path / "deep"]).total == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no picture there"):
        PictureFiles(tmp_path / "empty")


def test_an_input_is_not_written_over_unless_it_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((2, 2, 3), 9, np.uint8))
    before = path.read_bytes()

    def inverted(image: Any) -> Result:
        return Result(255 - image, None, {})

    with pytest.raises(
        UsageError, match=r"a\.png is an input: choose another folder, or allow it w"
    ):
        Pipeline(PictureFiles(path), inverted, PictureFolder(tmp_path)).run()
    assert path.read_bytes() == before
    Pipeline(PictureFiles(path), inverted, PictureFolder(tmp_path, overwrite=True)).run()
    assert cv2.imread(str(path))[0, 0, 0] == 246


def test_what_is_there_is_not_written_over_unless_it_is_allowed(tmp_path: Path) -> None:
    path, out = tmp_path / "a.png", tmp_path / "out"
    cv2.imwrite(str(path), np.zeros((2, 2, 3), np.uint8))
    out.mkdir()
    (out / "a.png").write_text("precious")
    with pytest.raises(UsageError, match=r"a\.png is there already: choose another folder"):
        Pipeline(PictureFiles(path), pass_through, PictureFolder(out)).run()
    assert (out / "a.png").read_text() == "precious"
    Pipeline(PictureFiles(path), pass_through, PictureFolder(out, overwrite=True)).run()
    assert cv2.imread(str(out / "a.png")) is not None


def test_a_stream_does_not_mix_with_one_of_an_earlier_run(tmp_path: Path) -> None:
    """Where frames were dropped, numbers are missing: the first one that clashes may come late."""
    pictures = [np.zeros((2, 2, 3), np.uint8)] * 2
    (tmp_path / "000007.png").write_text("precious")
    with pytest.raises(UsageError, match=r"000007\.png is there already, from another stream"):
        Pipeline(Frames(pictures), pass_through, PictureFolder(tmp_path)).run()
    assert [path.name for path in tmp_path.iterdir()] == ["000007.png"]
    Pipeline(Frames(pictures), pass_through, PictureFolder(tmp_path, overwrite=True)).run()
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(UsageError, match=r"000000\.png is there already"):
        Pipeline(Frames(pictures), pass_through, PictureFolder(tmp_path)).run()


def test_a_camera_into_a_folder_takes_no_memory_for_names(tmp_path: Path) -> None:
    sink = PictureFolder(tmp_path)
    Pipeline(Frames([np.zeros((2, 2, 3), np.uint8)] * 9), pass_through, sink).run()
    held = [value for value in vars(sink).values() if hasattr(value, "__len__")]
    assert held == [{}]


@pytest.mark.parametrize("image", [np.zeros((2, 2, 3), np.float32), "picture"])
def test_a_result_that_no_png_holds_is_refused(tmp_path: Path, image: Any) -> None:
    with pytest.raises(InputError, match="frame 0: expected a result of uint8 or uint16"):
        Pipeline(Frames([image]), pass_through, PictureFolder(tmp_path)).run()


def test_the_counters_have_an_address() -> None:
    counters = Counters()
    counters.written(0.0, 0.5)
    with Endpoint(counters.snapshot, 0) as endpoint:
        address = f"http://127.0.0.1:{endpoint.port}"
        with urllib.request.urlopen(f"{address}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert b"allfocus_frames_total 1\n" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address, timeout=5)
        with pytest.raises(UsageError, match="choose another port"):
            Endpoint(counters.snapshot, endpoint.port)
        endpoint.close()
        endpoint.close()
    with pytest.raises(UsageError, match="choose another port"):
        Endpoint(counters.snapshot, 70_000)
