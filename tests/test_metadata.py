"""What files say beside their pixels, carried over, with Pillow as the independent witness."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from allfocus.runtime.pictures.image import Picture, read_image, write_image
from allfocus.runtime.pictures.metadata import Metadata, orientation_only

HEIGHT, WIDTH = 16, 24
PILLOW = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".webp": "WEBP", ".bmp": "BMP"}
LABELLED = (".png", ".jpg", ".tif", ".webp")  # hold EXIF, a profile and XMP
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def noise(channels: int, dtype: Any = np.uint8) -> NDArray[Any]:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    lossless = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    image.save(path, PILLOW[path.suffix], **lossless, **options)
    return path


@cache
def profile() -> bytes:
    """The same bytes each time: a profile holds the second in which it was made."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int = 1) -> Image.Exif:
    block = Image.Exif()
    block[274] = orientation
    block[271] = "A camera maker"
    block.get_ifd(0x8769)[0x9003] = "2020:02:29 12:00:00"
    block.get_ifd(0x8769)[0x829A] = 0.008  # exposure, a rational number
    block.get_ifd(0x8825)[1] = "N"
    return block


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def picture(pixels: NDArray[Any], metadata: Metadata | None = None) -> Picture:
    return Picture(pixels=pixels, metadata=metadata or Metadata(), format="PNG", lossless=True)


def exif_tags(path: Path) -> dict[int, Any]:
    """All tags, with those of the EXIF and GPS directories, as Pillow reads them."""
    with Image.open(path) as image:
        block = image.getexif()  # before the pixels: for TIFF, Pillow then turns them
        tags = {t: block[t] for t in (271, 274) if t in block}
        return {**tags, **block.get_ifd(0x8769), **block.get_ifd(0x8825)}


@pytest.mark.parametrize("suffix", LABELLED)
@pytest.mark.parametrize("source", LABELLED)
def test_metadata_goes_from_each_format_to_each(tmp_path: Path, source: str, suffix: str) -> None:
    image = Image.fromarray(noise(3))
    first = save(tmp_path / "first.jpg", image, exif=exif(6), icc_profile=profile(), xmp=XMP)
    start, end = tmp_path / f"start{source}", tmp_path / f"end{suffix}"
    assert write_image(start, read_image(first)) == ()
    assert write_image(end, read_image(start)) == ()
    assert exif_tags(end) == exif_tags(first)
    assert opened(end).info["icc_profile"] == profile()
    assert opened(end).info["xmp"].rstrip(b"\0") == XMP


@pytest.mark.parametrize("suffix", LABELLED)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_looks_the_same_in_a_viewer(tmp_path: Path, suffix: str, orientation: int) -> None:
    pixels = np.kron(noise(3)[:2, :3], np.ones((8, 8, 1), np.uint8))
    path = save(tmp_path / f"in{suffix}", Image.fromarray(pixels), exif=exif(orientation))
    read = read_image(path)
    assert read.pixels.shape == (HEIGHT, WIDTH, 3), "pixels are given as they are stored"
    write_image(tmp_path / f"out{suffix}", read, quality=100)
    before, after = (
        ImageOps.exif_transpose(opened(tmp_path / f"{n}{suffix}")) for n in ("in", "out")
    )
    assert after.size == before.size == ((WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH))
    assert np.abs(np.asarray(before, int) - np.asarray(after, int)).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_format_without_exif_gets_upright_pixels(tmp_path: Path, orientation: int) -> None:
    path = save(tmp_path / "in.png", Image.fromarray(noise(3)), exif=exif(orientation))
    notes = write_image(tmp_path / "out.bmp", read_image(path))
    assert notes == ("its EXIF block was left out: a BMP holds none",)
    expected = ImageOps.exif_transpose(opened(path))
    assert np.array_equal(np.asarray(opened(tmp_path / "out.bmp")), np.asarray(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_map_turns_as_its_picture(tmp_path: Path, orientation: int) -> None:
    path = save(tmp_path / "in.jpg", Image.fromarray(noise(3)), exif=exif(orientation))
    read = read_image(path)
    write_image(tmp_path / "map.png", picture(noise(1), orientation_only(read.metadata)))
    assert exif_tags(tmp_path / "map.png").get(274, 1) == orientation
    assert 271 not in exif_tags(tmp_path / "map.png")


def test_exif_of_a_jpeg_is_kept_byte_for_byte(tmp_path: Path) -> None:
    block = exif(8)
    block.get_ifd(0x8769)[0x927C] = b"a maker's own bytes" * 9
    path = save(tmp_path / "in.jpg", Image.fromarray(noise(3)), exif=block, icc_profile=profile())
    write_image(tmp_path / "out.jpg", read_image(path))
    assert opened(tmp_path / "out.jpg").info["exif"] == opened(path).info["exif"]


def test_a_profile_of_several_segments(tmp_path: Path) -> None:
    large = profile() + bytes(200_000)
    path = save(tmp_path / "in.jpg", Image.fromarray(noise(3)), icc_profile=large)
    write_image(tmp_path / "out.jpg", read_image(path))
    assert opened(tmp_path / "out.jpg").info["icc_profile"] == large


def test_what_is_too_large_for_a_jpeg_is_named(tmp_path: Path) -> None:
    metadata = Metadata(exif=b"II*\0" + bytes(70_000), xmp=bytes(70_000), icc=bytes(17_000_000))
    notes = write_image(tmp_path / "out.jpg", picture(noise(3), metadata))
    assert [n.split(" of ")[0] for n in notes] == [
        *("its EXIF block", "its XMP block", "its colour profile")
    ]
    assert opened(tmp_path / "out.jpg").size == (WIDTH, HEIGHT)


def test_resolution_and_comments_stay_in_their_format(tmp_path: Path) -> None:
    image = Image.fromarray(noise(3))
    for name, options in (("a.jpg", {"comment": b"hello"}), ("a.png", {}), ("a.tif", {})):
        path = save(tmp_path / name, image, dpi=(300, 300), **options)
        write_image(tmp_path / f"out-{name}", read_image(path))
        info = opened(tmp_path / f"out-{name}").info
        assert round(float(info["dpi"][0])) == 300, name
        assert info.get("comment") == options.get("comment")


def test_png_colour_chunks_stay(tmp_path: Path) -> None:
    path = save(tmp_path / "in.png", Image.fromarray(noise(3)))
    chunk = b"gAMA" + struct.pack(">I", 100_000)
    data = path.read_bytes()
    gamma = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(data[:33] + gamma + data[33:])
    write_image(tmp_path / "out.png", read_image(path))
    assert opened(tmp_path / "out.png").info["gamma"] == 1.0
    write_image(tmp_path / "out.tif", read_image(path))  # which has no place for it
    assert opened(tmp_path / "out.tif").size == (WIDTH, HEIGHT)
