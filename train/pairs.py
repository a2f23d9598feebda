"""Files of a training pair: which picture belongs to which, and reading them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import InputError
from allfocus.runtime.pictures.formats import format_of
from allfocus.runtime.work import MAP_UNITS
from allfocus.train.camera import Image

EXTENSIONS = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}
WIDEST = 64.0  # pixels: a 16-bit map with larger radii is in some other unit
White = Literal["blurred", "sharp"]  # what white means in a map


@dataclass(frozen=True)
class Pair:
    """Files of one pair; None is what the data set has not.

    `defocus` is a map of radii, or a mask of what is in focus; `white` says what white means in it.
    Data sets for detection have no `sharp`. `left` and `right` are the blurry dual-pixel views.
    """

    blurry: Path
    sharp: Path | None
    defocus: Path | None
    left: Path | None = None
    right: Path | None = None
    white: White = "blurred"

    @property
    def files(self) -> list[Path]:
        """All that the pair has."""
        every = (self.blurry, self.sharp, self.defocus, self.left, self.right)
        return [path for path in every if path is not None]


def list_images(folder: Path) -> list[Path]:
    """The pictures directly in `folder`, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 RGB [H, W, 3]; raises InputError where it is damaged or cut short."""
    image = _decode(path, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8, copy=False)


def read_map(path: Path, max_radius: float, white: White) -> Image:
    """A defocus map or mask -> blur radius [H, W] in pixels.

    8 bits: white is `max_radius`, or, where white means sharp, black is. 16 bits: the radius times
    256, as `allfocus deblur --map` and `allfocus data make-maps` write it. Raises InputError for
    what is neither.
    """
    plane = _decode(path, cv2.IMREAD_UNCHANGED)
    plane = plane[..., 0] if plane.ndim == 3 else plane
    if plane.dtype == np.uint8:
        share = plane.astype(np.float32) / 255
        return np.asarray(max_radius * (share if white == "blurred" else 1 - share), np.float32)
    if plane.dtype != np.uint16:
        raise InputError(f"{path}: a map of {plane.dtype}; expected 8 or 16 bits without sign")
    radius = np.asarray(plane / np.float32(MAP_UNITS), np.float32)
    if white == "sharp" or radius.max() > WIDEST:
        raise InputError(
            f"{path}: a 16-bit map is the radius in pixels times {MAP_UNITS}, and this one reaches "
            f"{radius.max():.0f} pixels; scale it, or save it with 8 bits (255: the model's "
            "max_radius)"
        )
    return radius


def _decode(path: Path, flags: int) -> NDArray[Any]:
    try:
        data = path.read_bytes()
        format_of(data[:64]).inspect(data)  # OpenCV only pads what a file lacks
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (OSError, InputError, cv2.error) as error:
        raise InputError(f"{path}: {error}; repair or remove it") from None
    if image is None:
        raise InputError(f"{path}: not a picture that OpenCV can read; repair or remove it")
    return image


def match(folder: Path, names: tuple[str, ...], *lists: list[Path]) -> list[tuple[Path, ...]]:
    """Rows of files that belong together: those of one name, or else those of one place in order.

    `names` says what each list holds. Raises InputError, naming what lacks its partner.
    """
    stems = [{p.stem: p for p in files} for files in lists]
    common = set.intersection(*(set(s) for s in stems))
    if all(len(s) == len(common) for s in stems) and all(
        len(s) == len(files) for s, files in zip(stems, lists, strict=True)
    ):
        return [tuple(s[stem] for s in stems) for stem in sorted(common)]
    even = len({len(files) for files in lists}) == 1
    if even and len(common) <= len(lists[0]) / 2:  # another name on each side, as in DPDD
        return list(zip(*lists, strict=True))
    counts = ", ".join(f"{len(f)} {n}" for f, n in zip(lists, names, strict=True))
    keys = [{_number(p): p for p in files} for files in lists] if not common else stems
    shared = set.intersection(*(set(k) for k in keys))
    lonely = sorted(
        str(p.relative_to(folder)) for k in keys for n, p in k.items() if n not in shared
    )
    raise InputError(
        f"{folder}: {counts}; each blurry picture needs one of each. Without a partner: "
        + ", ".join(lonely[:5] or ["cannot tell by the names"])
        + (f" and {len(lonely) - 5} more" if len(lonely) > 5 else "")
    )


def _number(path: Path) -> str:
    """The digits at the end of a name, or all of it: `sharp_007` and `image_007` are one scene."""
    stem = path.stem
    digits = stem[len(stem.rstrip("0123456789")) :]
    return digits or stem
