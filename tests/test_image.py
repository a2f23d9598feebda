"""Image files in and out, with Pillow as the independent witness."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image, ImageCms

from allfocus.runtime.errors import AllfocusError, InputError, UsageError
from allfocus.runtime.pictures import ifd
from allfocus.runtime.pictures.image import _SILENCE, Picture, read_image, write_image
from allfocus.runtime.pictures.metadata import Metadata

HEIGHT, WIDTH = 16, 24
PILLOW = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".webp": "WEBP", ".bmp": "BMP"}
EXACT = (".png", ".tif", ".webp", ".bmp")


def noise(channels: int, dtype: Any = np.uint8) -> NDArray[Any]:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    lossless = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    image.save(path, PILLOW[path.suffix], **lossless, **options)
    return path


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def picture(pixels: NDArray[Any], metadata: Metadata | None = None) -> Picture:
    return Picture(pixels=pixels, metadata=metadata or Metadata(), format="PNG", lossless=True)


def patch_tag(path: Path, tag: int, value: int) -> None:
    """Overwrite a tag of one 16-bit number in a TIFF file."""
    data = bytearray(path.read_bytes())
    order, first = ifd.read_header(bytes(data))
    for place in ifd.entry_places(bytes(data), order, first):
        if struct.unpack_from(f"{order}H", data, place)[0] == tag:
            struct.pack_into(f"{order}H", data, place + 8, value)
    path.write_bytes(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pixels_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from((".png", ".tif")))
    dtype = data.draw(st.sampled_from((np.uint8, np.uint16)))
    channels = data.draw(st.sampled_from((1, 3, 4) if suffix == ".tif" else (1, 2, 3, 4)))
    sides = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    pixels = data.draw(arrays.arrays(dtype, sides if channels == 1 else (*sides, channels)))
    path = tmp_path_factory.mktemp("exact") / f"a{suffix}"
    write_image(path, picture(pixels))
    back = read_image(path).pixels
    assert back.dtype == pixels.dtype
    assert np.array_equal(back, pixels)


def image_of(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(noise(1, np.uint16))
    if mode == "LA":
        return Image.merge("LA", [Image.fromarray(noise(4)[..., c].copy()) for c in (0, 3)])
    color = Image.fromarray(noise(4))
    return color if mode == "RGBA" else color.convert("RGB").convert(mode)


MODES = ("L", "RGB", "LA", "RGBA", "I;16", "P", "1")
UNHELD = {(".bmp", "LA"), (".bmp", "I;16"), (".webp", "I;16"), (".tif", "LA")}


@pytest.mark.parametrize(
    ("suffix", "mode"), [(s, m) for s in EXACT for m in MODES if (s, m) not in UNHELD]
)
def test_every_mode_pillow_writes(tmp_path: Path, suffix: str, mode: str) -> None:
    path = save(tmp_path / f"in{suffix}", image_of(mode))
    assert write_image(tmp_path / f"out{suffix}", read_image(path)) == ()
    before, after = opened(path), opened(tmp_path / f"out{suffix}")
    modes = {"P": "RGB", "1": "L"}
    assert after.mode == modes.get(before.mode, before.mode)
    difference = np.asarray(before.convert(after.mode)) != np.asarray(after)
    if suffix == ".webp" and after.mode == "RGBA":  # colours nobody sees need not come back
        difference = difference[np.asarray(after)[..., 3] > 0]
    assert not difference.any()


def test_palette_with_transparency_becomes_rgba(tmp_path: Path) -> None:
    image = Image.fromarray(noise(3)).quantize(16)
    path = save(tmp_path / "in.png", image, transparency=3)
    write_image(tmp_path / "out.png", read_image(path))
    assert opened(tmp_path / "out.png").mode == "RGBA"
    expected = np.asarray(opened(path).convert("RGBA"))
    assert np.array_equal(np.asarray(opened(tmp_path / "out.png")), expected)


def test_tiff_colours_are_not_multiplied_by_alpha(tmp_path: Path) -> None:
    path = save(tmp_path / "in.tif", Image.fromarray(noise(4)))
    assert np.array_equal(read_image(path).pixels, noise(4)[..., (2, 1, 0, 3)])


def test_tiff_multiplied_alpha_stays_tiff(tmp_path: Path) -> None:
    path = save(tmp_path / "in.tif", Image.fromarray(noise(4)))
    patch_tag(path, 338, 1)
    read = read_image(path)
    assert np.array_equal(read.pixels, noise(4)[..., (2, 1, 0, 3)])
    write_image(tmp_path / "out.tif", read)
    with Image.open(tmp_path / "out.tif") as image:
        assert image.getexif()[338] == 1
    with pytest.raises(InputError, match="keep TIFF"):
        write_image(tmp_path / "out.png", read)
    assert not (tmp_path / "out.png").exists()


def test_cmyk_becomes_rgb_and_says_so(tmp_path: Path) -> None:
    smooth = cv2.GaussianBlur(noise(3), (0, 0), 4)
    for suffix in (".jpg", ".tif"):
        inks = Image.fromarray(smooth).convert("CMYK")
        icc = bytearray(profile())
        icc[16:20] = b"CMYK"
        path = save(tmp_path / f"in{suffix}", inks, icc_profile=bytes(icc))
        read = read_image(path)
        assert read.metadata.icc is None
        assert "CMYK" in read.notes[0]
        expected = np.asarray(opened(path).convert("RGB"), int)
        assert np.abs(read.pixels[..., ::-1].astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("source", "alpha", "target", "stays"),
    [
        (".png", False, ".jpg", True),
        (".png", False, ".tif", True),
        (".png", True, ".png", True),
        (".png", False, ".webp", False),
        (".png", True, ".tif", False),
        (".tif", False, ".webp", False),
    ],
)
def test_a_profile_of_greys_stays_with_greys(
    tmp_path: Path, source: str, alpha: bool, target: str, stays: bool
) -> None:
    icc = bytearray(profile())
    icc[16:20] = b"GRAY"
    image = Image.fromarray(noise(1)).convert("LA" if alpha else "L")
    path = save(tmp_path / f"in{source}", image, icc_profile=bytes(icc))
    notes = write_image(tmp_path / f"out{target}", read_image(path))
    assert ("icc_profile" in opened(tmp_path / f"out{target}").info) is stays
    assert any("grey colour profile was left out" in note for note in notes) is not stays


def test_grey_jpeg_stays_grey_at_the_wanted_quality(tmp_path: Path) -> None:
    path = save(tmp_path / "in.jpg", Image.fromarray(noise(1)), quality=100)
    for quality in (30, 95):
        write_image(tmp_path / f"{quality}.jpg", read_image(path), quality=quality)
    assert opened(tmp_path / "95.jpg").mode == "L"
    assert (tmp_path / "30.jpg").stat().st_size < (tmp_path / "95.jpg").stat().st_size


def test_jpeg_keeps_chroma_at_full_size(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", picture(noise(3)))
    layers = opened(tmp_path / "a.jpg").layer  # type: ignore[attr-defined]
    assert [layer[1:3] for layer in layers] == [(1, 1)] * 3


def test_what_a_format_cannot_hold_is_named(tmp_path: Path) -> None:
    notes = write_image(tmp_path / "a.jpg", picture(noise(4, np.uint16)))
    assert notes == (
        "16 bits became 8: a JPEG holds no more",
        "its transparency was left out: a JPEG holds none",
    )
    flat = np.full((8, 8, 3), 32896, np.uint16)  # 128 of 255
    write_image(tmp_path / "flat.jpg", picture(flat))
    assert set(np.unique(np.asarray(opened(tmp_path / "flat.jpg")))) == {128}


def test_webp_is_lossless_where_the_source_was(tmp_path: Path) -> None:
    exact = picture(noise(3))
    write_image(tmp_path / "exact.webp", exact)
    write_image(tmp_path / "lossy.webp", replace(exact, lossless=False), quality=50)
    assert np.array_equal(read_image(tmp_path / "exact.webp").pixels, exact.pixels)
    assert read_image(tmp_path / "exact.webp").lossless
    assert not read_image(tmp_path / "lossy.webp").lossless


def test_a_name_without_a_known_suffix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.jpg"):
        write_image(tmp_path / "a.xyz", picture(noise(3)))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AllfocusError, match="cannot write"):
        write_image(tmp_path / "file" / "a.png", picture(noise(3)))


def test_a_picture_too_wide_for_its_format(tmp_path: Path) -> None:
    with pytest.raises(AllfocusError, match="cannot write 17000x1 as WebP; choose PNG"):
        write_image(tmp_path / "a.webp", picture(np.zeros((1, 17_000, 3), np.uint8)))
    assert list(tmp_path.iterdir()) == []


def test_opencv_is_silent_while_any_thread_asks_for_it_and_no_longer() -> None:
    """Its level is one for all threads."""
    logging = cv2.utils.logging
    before = logging.setLogLevel(3)
    try:
        first, second = _SILENCE, _SILENCE
        with first:
            second.__enter__()
            assert logging.getLogLevel() == 0
        assert logging.getLogLevel() == 0
        second.__exit__()
        assert logging.getLogLevel() == 3
    finally:
        logging.setLogLevel(before)
