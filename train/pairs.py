"""Files of a training pair: which picture belongs to which, and reading them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import digits
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import InputError
from allfocus.runtime.pictures.formats import format_of
from allfocus.runtime.pictures.metadata import orientation, upright
from allfocus.runtime.pictures.radius import MAP_UNITS, WIDEST
from allfocus.train.camera import Image

EXTENSIONS = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}
_DIGITS = re.compile("[0-9]+")
_GREY = 0.05  # of white: how much the channels of a grey picture differ at most
White = Literal["blurred", "sharp"]  # what white means in a map


@dataclass(frozen=True)
class Pair:
    """Files of one pair; None is what the data set has not.

    `defocus` is a map of radii, or a mask of what is in focus; `white` says what white means in it.
    Data sets for detection have no `sharp`. `left` and `right` are the blurry dual-pixel views.
    `by_order`: their names do not tell that the files belong together, only their places do.
    """

    blurry: Path
    sharp: Path | None
    defocus: Path | None
    left: Path | None = None
    right: Path | None = None
    white: White = "blurred"
    by_order: bool = False

    @property
    def files(self) -> list[Path]:
        """All that the pair has."""
        every = (self.blurry, self.sharp, self.defocus, self.left, self.right)
        return [path for path in every if path is not None]


def list_images(folder: Path) -> list[Path]:
    """The pictures directly in `folder`, sorted by name.

    None that is hidden: such are drafts of a run that was killed, and what macOS adds (`._a.jpg`).
    A link that leads nowhere is one that is missed.
    """
    with os.scandir(folder) as entries:  # which knows what is a folder without asking each file
        named = [each for each in entries if Path(each.name).suffix.lower() in EXTENSIONS]
        return sorted(
            Path(each.path) for each in named if not (each.name.startswith(".") or each.is_dir())
        )


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 RGB [H, W, 3]; raises InputError where it is damaged or cut short."""
    image = _decode(path, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8, copy=False)


def check_sizes(arrays: Mapping[Path, NDArray[Any]]) -> None:
    """Raise InputError where the files of a pair, [H, W] or [H, W, C], are not of one size."""
    sizes = {path: f"{array.shape[1]}x{array.shape[0]}" for path, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{p.parent.name}/{p.name} {size}" for p, size in sizes.items())
        raise InputError(
            f"{next(iter(sizes))}: sizes differ: {listed}; a pair's pictures and map have one size"
        )


def read_map(path: Path, max_radius: float, white: White) -> Image:
    """A defocus map or mask -> blur radius [H, W] in pixels.

    8 bits: white is `max_radius`, or, where white means sharp, black is. 16 bits: the radius times
    256, as `allfocus deblur --map` and `allfocus data make-maps` write it. Raises InputError for
    what is neither, and for a map in colours.
    """
    plane = _grey(path, _decode(path, cv2.IMREAD_UNCHANGED))
    if plane.dtype == np.uint8:
        share = plane.astype(np.float32) / 255
        return np.asarray(max_radius * (share if white == "blurred" else 1 - share), np.float32)
    if plane.dtype != np.uint16:
        raise InputError(f"{path}: a map of {plane.dtype}; expected 8 or 16 bits without sign")
    if white == "sharp":
        raise InputError(
            f"{path}: a mask of 16 bits, in which white means sharp; expected 8 bits: save it anew"
        )
    radius = np.asarray(plane / np.float32(MAP_UNITS), np.float32)
    if radius.max() > WIDEST:
        raise InputError(
            f"{path}: a 16-bit map is the radius in pixels times {MAP_UNITS}, and this one reaches "
            f"{radius.max():.0f} pixels; scale it, or save it with 8 bits (255: the model's "
            "max_radius)"
        )
    return radius


def sharp_in_mask(radius: Image, max_radius: float) -> NDArray[np.bool_]:
    """Where a mask, read as radii [H, W] up to `max_radius`, says in focus: its greys are edges,
    and cut in the middle."""
    return np.asarray(radius < max_radius / 2)


def _grey(path: Path, image: NDArray[Any]) -> NDArray[Any]:
    """The one plane of a map; what differs in JPEG alone is grey too. InputError for colours."""
    if image.ndim == 2:
        return image
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
    if np.ptp(image[..., :3], axis=2).max() > _GREY * white:
        raise InputError(
            f"{path}: a map in colours; expected grey, white where the blur is largest"
        )
    return np.asarray(image[..., 0])


def _decode(path: Path, flags: int) -> NDArray[Any]:
    """A picture as its EXIF orientation asks: a map lies as its picture does."""
    try:
        data = path.read_bytes()
        form = format_of(data[:64])
        header = form.inspect(data)  # OpenCV only pads what a file lacks
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (OSError, InputError, cv2.error) as error:
        raise InputError(f"{path}: {error}; repair or remove it") from None
    if image is None:
        raise InputError(f"{path}: not a picture that OpenCV can read; repair or remove it")
    turned = flags != cv2.IMREAD_UNCHANGED or form.name == "TIFF"  # by OpenCV
    return np.asarray(image) if turned else upright(image, orientation(header.metadata))


_Key = Callable[[Path], str | None]


@dataclass(frozen=True)
class Rows:
    """Files that belong together; `by_order` where only their places in order tell so."""

    files: list[tuple[Path, ...]]
    by_order: bool


def match(folder: Path, names: tuple[str, ...], *lists: list[Path]) -> Rows:
    """Rows of files that belong together: each of the first list with one of every other.

    Those of one name, which may stand within what all names of a list have around it, such as
    `cat_gt` and `dog_gt`; else those of one last number. Where there are as many of each, and no
    name and no number in common, as in DPDD: those of one place in order. `names` says what each
    list holds. Raises InputError, naming what lacks its partner.
    """
    first, *others = lists
    ordered = [_only_order_tells(first, other) for other in others]
    partners = [
        _by_order(first, other) if order else _by_name(first, other)
        for other, order in zip(others, ordered, strict=True)
    ]
    lonely = {path for partner in partners for path in first if path not in partner}
    for other, partner in zip(others, partners, strict=True):
        lonely |= set(other) - set(partner.values())
    if lonely:
        counts = ", ".join(f"{len(f)} {n}" for f, n in zip(lists, names, strict=True))
        raise InputError(_lonely_text(folder, counts, lonely))
    rows = [(p, *(partner[p] for partner in partners)) for p in sorted(first, key=_stem)]
    return Rows(rows, any(ordered))


def _lonely_text(folder: Path, counts: str, lonely: set[Path]) -> str:
    listed = sorted(str(path.relative_to(folder)) for path in lonely)
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return (
        f"{folder}: {counts}; each blurry picture needs one of each. Without a partner, or with "
        f"several: {', '.join(listed[:5])}{more}; give what belongs together one name"
    )


def _only_order_tells(ours: list[Path], theirs: list[Path]) -> bool:
    if not ours or len(ours) != len(theirs):
        return False
    return all(
        not ({mine(p) for p in ours} & {other(p) for p in theirs}) - {None}
        for mine, other in _keys(ours, theirs)
    )


def _by_order(ours: list[Path], theirs: list[Path]) -> dict[Path, Path]:
    return dict(zip(sorted(ours, key=_natural), sorted(theirs, key=_natural), strict=True))


def _by_name(ours: list[Path], theirs: list[Path]) -> dict[Path, Path]:
    """The partner of each of `ours` that has just one by its name, or else by its number."""
    partner: dict[Path, Path] = {}
    for of_ours, of_theirs in _keys(ours, theirs):
        mine, other = _unique(ours, of_ours), _unique(theirs, of_theirs)
        taken = set(partner.values())
        for name in mine.keys() & other.keys():
            if mine[name] not in partner and other[name] not in taken:
                partner[mine[name]] = other[name]
    return partner


def _keys(ours: list[Path], theirs: list[Path]) -> list[tuple[_Key, _Key]]:
    """What files that belong together may have in common, the surest first."""
    bare = (_bare(ours), _bare(theirs))
    return [(_stem, _stem), (_folded, _folded), bare, (_number, _number)]


def _bare(files: list[Path]) -> _Key:
    """A name without what all of `files` have before and behind it; None where nothing is left.

    A number is not cut: its first or last digits may be all the same.
    """
    stems = [path.stem for path in files]
    head = _beginning(stems).rstrip(digits)
    tail = _beginning([stem[len(head) :][::-1] for stem in stems])[::-1].lstrip(digits)
    return lambda path: path.stem[len(head) :].removesuffix(tail) or None


def _beginning(texts: list[str]) -> str:
    """What all of `texts` begin with: the first and the last in order differ the soonest."""
    first, last = min(texts, default=""), max(texts, default="")
    pairs = enumerate(zip(first, last, strict=False))
    return first[: next((i for i, (a, b) in pairs if a != b), len(first))]


def _unique(files: list[Path], key: _Key) -> dict[str, Path]:
    """Those whose key is there and no other file's."""
    keys = [key(path) for path in files]
    counts = Counter(keys)
    return {
        name: path
        for name, path in zip(keys, files, strict=True)
        if name is not None and counts[name] == 1
    }


def _stem(path: Path) -> str:
    return path.stem


def _folded(path: Path) -> str:
    """However capitals are written, and accents: file systems differ in both."""
    return unicodedata.normalize("NFC", path.stem).casefold()


def _number(path: Path) -> str | None:
    """The last number in a name, if any: `sharp_007`, `image_7` and `7_blurry` are one scene."""
    runs = _DIGITS.findall(path.stem)
    return str(int(runs[-1])) if runs else None


def _natural(path: Path) -> list[tuple[str, int]]:
    """Sorts by the numbers in a name, 2 before 10."""
    name = _folded(path)
    parts = _DIGITS.split(name)
    runs = [int(run) for run in _DIGITS.findall(name)]
    return list(zip(parts, [*runs, 0], strict=True))
