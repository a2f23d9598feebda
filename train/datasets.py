"""Public data sets of defocus, in the folder layouts they are published in.

Where each layout is known from stands with it. None can be fetched by this project.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from allfocus.runtime.errors import InputError
from allfocus.train.pairs import Pair, White, list_images, match, read_rgb

Splits = dict[str, list[Pair]]
_LOOKED_AT = 12  # masks that are compared with their pictures to see what white means


@dataclass(frozen=True)
class Found:
    """A data set that was recognised: its name and the pairs of each split."""

    name: str
    splits: Splits
    notes: tuple[str, ...] = field(default=())

    def pairs(self, split: str = "train") -> list[Pair]:
        """Those of `split`; all of them where the folder is not split so."""
        return self.splits.get(split) or [p for pairs in self.splits.values() for p in pairs]


@dataclass(frozen=True)
class Layout:
    """A data set's folders: what they look like, how that is known, and what reads them.

    `read` gives nothing where a folder is not of this layout; it raises InputError where it is, and
    something is wrong.
    """

    name: str
    shape: str
    source: str
    read: Callable[[Path], Splits]


def recognise(folder: Path) -> Found | None:
    """The data set in `folder`, or None; raises InputError where one is there and incomplete."""
    for layout in LAYOUTS:
        splits = {name: pairs for name, pairs in layout.read(folder).items() if pairs}
        if splits:
            return _measured(Found(_name(layout, splits), splits))
    return None


def _dpdd(folder: Path) -> Splits:
    splits = {}
    for split in ("train", "val", "test"):
        base = folder / f"{split}_c"
        if not (base / "source").is_dir():
            continue
        sides = [folder / f"{split}_{side}" / "source" for side in "lr"]
        views = [_pictures(side) for side in sides if side.is_dir()]
        if len(views) == 1:
            raise InputError(
                f"{folder}: one of {split}_l/ and {split}_r/ is missing; DPDD has both"
            )
        names = ("blurry", "sharp", "left views", "right views")[: 2 + len(views)]
        rows = match(folder, names, _pictures(base / "source"), _pictures(base / "target"), *views)
        splits[split] = [
            Pair(row[0], row[1], None, *((row[2], row[3]) if views else (None, None)))
            for row in rows
        ]
    return splits


def _lfdof(folder: Path) -> Splits:
    splits = {}
    for split in ("train", "test"):
        inputs, truths = folder / f"{split}_data" / "input", folder / f"{split}_data/ground_truth"
        if inputs.is_dir():
            splits[split] = _many_to_one(folder, inputs, _pictures(truths))
    return splits


def _many_to_one(folder: Path, inputs: Path, truths: list[Path]) -> list[Pair]:
    """LFDOF's several blurry pictures of each sharp one, each scene's in a folder of its name."""
    scenes = {p.name: list_images(p) for p in sorted(inputs.iterdir()) if p.is_dir()}
    sharp = {p.stem: p for p in truths}
    lonely = sorted(scenes.keys() ^ sharp.keys()) + [n for n, found in scenes.items() if not found]
    if lonely:
        raise InputError(
            f"{folder}: scenes without blurry pictures or without a sharp one: "
            f"{', '.join(lonely[:5])}; expected input/NAME/*.png and ground_truth/NAME.png"
        )
    return [Pair(blurry, sharp[name], None) for name in scenes for blurry in scenes[name]]


def _sdd(folder: Path) -> Splits:
    splits = {}
    for split, name in (("train", "train_patches"), ("train", "train"), ("test", "test")):
        base = folder / name
        if split not in splits and (base / "blur").is_dir() and (base / "gt").is_dir():
            splits[split] = _plain(folder, base / "blur", base / "gt")
    return splits


def _dut(folder: Path) -> Splits:
    """Folders DUT600S_Training and DUT600GT_Training, DUT500S-Testing and DUT500GT-Testing."""
    splits = {}
    for base in sorted(p for p in folder.iterdir() if p.is_dir()):
        known = re.fullmatch(r"((?:DUT|CUHK)\d+)S([-_])(Train|Test)ing", base.name)
        if known:
            masks = folder / f"{known[1]}GT{known[2]}{known[3]}ing"
            splits[known[3].lower()] = _masked(folder, _pictures(base), _pictures(masks))
    return splits


def _cuhk(folder: Path) -> Splits:
    images, masks = folder / "image", folder / "gt"
    if not (images.is_dir() and masks.is_dir()):
        return {}
    blurred = [p for p in list_images(images) if p.stem.startswith("out_of_focus")]
    gt = [p for p in list_images(masks) if p.stem.startswith("out_of_focus")]
    if not blurred:
        return {}
    pairs = _masked(folder, blurred, gt)
    return {"train": pairs[:604], "test": pairs[604:]} if len(pairs) == 704 else {"all": pairs}


def _detection(folder: Path) -> Splits:
    images, masks = folder / "images", folder / "masks"
    if not (images.is_dir() and masks.is_dir()):
        return {}
    return {"all": _masked(folder, list_images(images), list_images(masks))}


def _source_target(folder: Path) -> Splits:
    if not ((folder / "source").is_dir() and (folder / "target").is_dir()):
        return {}
    return {"all": _plain(folder, folder / "source", folder / "target")}


def _own(folder: Path) -> Splits:
    """DED's folders, and the names a user's own pairs may have."""
    blurry, sharp = _first(folder, "image", "blurry", "blur"), _first(folder, "sharp", "gt")
    if not blurry or not sharp:
        return {}
    maps = _first(folder, "filtered", "defocus")
    names, lists = ("blurry", "sharp pictures", "maps"), [list_images(blurry), list_images(sharp)]
    rows = (
        match(folder, names, *lists, list_images(maps))
        if maps
        else match(folder, names[:2], *lists)
    )
    return {"all": [Pair(row[0], row[1], row[2] if maps else None) for row in rows]}


LAYOUTS = (
    Layout(
        "DPDD",
        "{train,val,test}_c/{source,target}, views in {train,val,test}_{l,r}/source",
        "README of the public repository Abdullah-Abuolaim/defocus-deblurring-dual-pixel",
        _dpdd,
    ),
    Layout(
        "LFDOF",
        "{train,test}_data/input/NAME/*.png with ground_truth/NAME.png",
        "paths in public code that reads it (input/IMG_1275/IMG_1275_ap1_00.png)",
        _lfdof,
    ),
    Layout(
        "SDD",
        "{train_patches or train,test}/{blur,gt}",
        "train.py and solver.py of the public repository liyucs/JDRL",
        _sdd,
    ),
    Layout(
        "DUT",
        "DUT600S_Training + DUT600GT_Training, DUT500S-Testing + DUT500GT-Testing",
        "paths in public code for defocus detection that reads it",
        _dut,
    ),
    Layout(
        "CUHK",
        "image/out_of_focusNNNN.jpg + gt/out_of_focusNNNN.png; 604 to train, 100 to test",
        "paths in public code that reads it; the split's sizes from papers, not its order",
        _cuhk,
    ),
    Layout(
        "detection", "images + masks", "the form in which CUHK and DUT are passed on", _detection
    ),
    Layout(
        "RealDOF",
        "source + target (50 pairs)",
        "configs/config.py of the public repository codeslake/IFAN",
        _source_target,
    ),
    Layout(
        "DED",
        "image + sharp + filtered (the maps), names ending in one number",
        "DID-ANet's public data set",
        _own,
    ),
)
_COUNTS = {"RealDOF": {50}, "DED": {1012, 100, 1112}}  # pairs that a folder of this name has


def _name(layout: Layout, splits: Splits) -> str:
    """The data set's name, where the number of pairs agrees; others use such folders too."""
    count = sum(map(len, splits.values()))
    if layout.name not in _COUNTS or count in _COUNTS[layout.name]:
        return layout.name
    return "Realistic" if count == 22 else f"pairs in {layout.name}'s layout"


def _measured(found: Found) -> Found:
    """With what white means in detection masks: seen from the pictures, since papers differ."""
    masked = [p for p in found.pairs("") if p.sharp is None]
    if not masked:
        return found
    white: White = "sharp" if _white_is_sharp(masked) else "blurred"
    splits = {n: [replace(p, white=white) for p in pairs] for n, pairs in found.splits.items()}
    return Found(found.name, splits, (f"white in the masks is {white}, going by the detail there",))


def _white_is_sharp(pairs: list[Pair]) -> bool:
    votes = 0
    for pair in pairs[:: max(1, len(pairs) // _LOOKED_AT)][:_LOOKED_AT]:
        try:
            grey = read_rgb(pair.blurry)[..., 1].astype(np.float32)
            mask = read_rgb(pair.defocus or pair.blurry)[..., 0] > 127
        except InputError:
            continue  # it is named when all are read
        if mask.shape == grey.shape and 0 < mask.mean() < 1:
            detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
            votes += 1 if detail[mask].mean() > detail[~mask].mean() else -1
    return votes >= 0


def _plain(folder: Path, blurry: Path, sharp: Path) -> list[Pair]:
    rows = match(folder, ("blurry", "sharp"), list_images(blurry), list_images(sharp))
    return [Pair(row[0], row[1], None) for row in rows]


def _masked(folder: Path, images: list[Path], masks: list[Path]) -> list[Pair]:
    rows = match(folder, ("pictures", "masks"), images, masks)
    return [Pair(image, None, mask) for image, mask in rows]


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: missing; the rest of its data set is there")
    return list_images(folder)


def _first(folder: Path, *names: str) -> Path | None:
    return next((folder / n for n in names if (folder / n).is_dir()), None)
