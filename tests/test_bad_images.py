"""Image files that cannot be processed: each refused with a reason, never anything else."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from allfocus.runtime.errors import InputError, LimitError
from allfocus.runtime.pictures import ifd
from allfocus.runtime.pictures.image import read_image

HEIGHT, WIDTH = 16, 24
PILLOW = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".webp": "WEBP", ".bmp": "BMP"}


def noise(channels: int, dtype: Any = np.uint8) -> NDArray[Any]:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    lossless = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    image.save(path, PILLOW[path.suffix], **lossless, **options)
    return path


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def patch_tag(path: Path, tag: int, value: int) -> None:
    """Overwrite a tag of one 16-bit number in a TIFF file."""
    data = bytearray(path.read_bytes())
    order, first = ifd.read_header(bytes(data))
    for place in ifd.entry_places(bytes(data), order, first):
        if struct.unpack_from(f"{order}H", data, place)[0] == tag:
            struct.pack_into(f"{order}H", data, place + 8, value)
    path.write_bytes(data)


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def _without_end(data: bytes) -> bytes:
    return data[:-2]


@pytest.mark.parametrize("suffix", PILLOW)
@pytest.mark.parametrize("damage", [_cut, _without_end])
def test_cut_short(tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]) -> None:
    path = save(tmp_path / f"a{suffix}", Image.fromarray(noise(3)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"cut short|damaged") as error:
        read_image(path)
    assert str(path) in str(error.value)


def test_a_large_jpeg_cut_in_its_scan_is_not_filled_with_grey(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (400, 600, 3), np.uint8)
    for progressive in (False, True):
        path = save(tmp_path / "a.jpg", Image.fromarray(pixels), progressive=progressive)
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(InputError, match="cut short: the JPEG breaks off at byte"):
            read_image(path)


def test_one_changed_byte_in_a_png(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(noise(3)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="checksum of a IDAT chunk"):
        read_image(path)


def test_not_an_image(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("shopping: bread, milk")
    with pytest.raises(InputError, match=r"not a picture .*b'shopping'.*PNG, JPEG, TIFF"):
        read_image(path)


def test_empty_missing_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    cases = {"empty.jpg": "empty", "none.jpg": "no such file", ".": "a folder"}
    for name, text in cases.items():
        with pytest.raises(InputError, match=text):
            read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", PILLOW)
def test_too_large_is_refused_by_the_header(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", Image.fromarray(noise(3)))
    assert read_image(path, max_pixels=HEIGHT * WIDTH).pixels.shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(
        LimitError, match="the limit is 383; if it is meant to be, allow it with --max-pixels 384"
    ):
        read_image(path, max_pixels=HEIGHT * WIDTH - 1)


def test_a_huge_declared_size_is_refused_before_decoding(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    end = b"IEND"
    data = b"\x89PNG\r\n\x1a\n"
    for chunk in (header, end):
        data += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(
        InputError, match="3,600,000,000 pixels, the limit is 200,000,000; cut it"
    ) as told:
        read_image(tmp_path / "bomb.png")
    assert not isinstance(told.value, LimitError)  # no option allows it


@pytest.mark.parametrize(
    ("pixels", "text"),
    [
        (np.zeros((4, 4), np.float32), "floating-point 32-bit samples"),
        (np.zeros((4, 4), np.int32), "signed 32-bit samples"),
    ],
)
def test_depths_that_are_not_read(tmp_path: Path, pixels: NDArray[Any], text: str) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(pixels))
    with pytest.raises(InputError, match=text):
        read_image(path)


def test_several_pictures_in_one_file(tmp_path: Path) -> None:
    page = Image.fromarray(noise(3))
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page, page])
    page.save(tmp_path / "a.webp", save_all=True, append_images=[Image.fromarray(255 - noise(3))])
    page.save(tmp_path / "a.png", save_all=True, append_images=[Image.fromarray(255 - noise(3))])
    cases = {"a.tif": "holds 3 pictures", "a.webp": "animated WebP", "a.png": "animated PNG"}
    for name, text in cases.items():
        with pytest.raises(InputError, match=text):
            read_image(tmp_path / name)


def test_tiff_kinds_that_opencv_reads_wrongly_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(noise(1, np.uint16)))
    patch_tag(path, 262, 0)  # white is zero
    with pytest.raises(InputError, match="a 16-bit TIFF that is not plain interleaved"):
        read_image(path)
    grey_alpha = Image.merge("LA", [Image.fromarray(noise(1))] * 2)
    path = save(tmp_path / "b.tif", grey_alpha)
    with pytest.raises(InputError, match="colour model 1 with 2 samples a pixel"):
        read_image(path)


@pytest.mark.parametrize("suffix", PILLOW)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_files_never_raise_anything_else(
    tmp_path: Path, suffix: str, data: st.DataObject
) -> None:
    buffer, turned = io.BytesIO(), Image.Exif()
    turned[274] = 6
    labels = {} if suffix == ".bmp" else {"exif": turned, "icc_profile": profile()[:200]}
    Image.fromarray(noise(3)[:6, :6]).save(buffer, PILLOW[suffix], **labels)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        read = read_image(path, max_pixels=10_000)
    except InputError:
        return
    assert read.pixels.dtype in (np.uint8, np.uint16)
    assert read.pixels.size <= 40_000
