"""Frames that change their size, type and channels in mid-stream, through a real model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import allfocus
from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams.files import PictureFolder
from allfocus.runtime.streams.frames import StreamFrame
from allfocus.runtime.streams.simple import Callback, Frames

PHOTO = Path(allfocus.__file__).parent / "data" / "chelsea.png"


@pytest.fixture(scope="module")
def deblur() -> Iterator[Deblurrer]:
    with allfocus.load("didanet-lite", backend="cpu", threads=1) as loaded:
        yield loaded


def changing() -> list[Any]:
    """One picture after the other, each in another form; what is no frame stands between them."""
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    part = photo[100:140, 150:198]
    return [
        part,
        part[:30, :25],
        part.astype(np.uint16) * 257,
        part.astype(np.float64) / 255,  # no frame
        part.astype(np.float32) / 255,
        part[..., 0],
        "a string",  # no frame
        np.dstack((part, part[..., 0])),
        part[..., :2],  # no frame
        part[..., :1],
        part[:, ::-1],  # strides that go back
        part[:0],  # no frame
        part,
    ]


WRONG = (3, 6, 8, 11)


def test_each_comes_out_as_it_went_in(deblur: Deblurrer) -> None:
    pictures = changing()
    found: dict[int, Any] = {}

    def keep(frame: StreamFrame, result: Result) -> None:
        found[frame.index] = result.image

    report = Pipeline(Frames(pictures), deblur, Callback(keep)).run()
    assert (report.frames, report.damaged) == (len(pictures) - len(WRONG), len(WRONG))
    assert list(found) == [index for index in range(len(pictures)) if index not in WRONG]
    for index, image in found.items():
        assert (image.shape, image.dtype) == (pictures[index].shape, pictures[index].dtype)
        np.testing.assert_array_equal(image, deblur(pictures[index]).image)
    np.testing.assert_array_equal(found[0], found[12])  # whatever came between


def test_a_folder_takes_what_pictures_can_hold(deblur: Deblurrer, tmp_path: Path) -> None:
    pictures = [p for n, p in enumerate(changing()) if n not in WRONG and n != 4]
    report = Pipeline(Frames(pictures), deblur, PictureFolder(tmp_path / "out")).run()
    assert (report.frames, report.damaged) == (len(pictures), 0)
    written = sorted((tmp_path / "out").iterdir())
    assert len(written) == len(pictures)
    for path, picture in zip(written, pictures, strict=True):
        read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert read is not None
        assert read.reshape(picture.shape).dtype == picture.dtype
