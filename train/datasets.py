"""Public data sets of defocus, in the folder layouts they are published in.

Where each layout is known from stands with it. None can be fetched by this project.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from allfocus.runtime.errors import InputError
from allfocus.train import pair_folders
from allfocus.train.masks import white_is_sharp
from allfocus.train.pair_folders import MAPS, Splits, folders, paired, pairs_in, subfolder
from allfocus.train.pairs import Pair, White, list_images, match

Use = Literal["train", "val", "test"]
_SPLITS_FOR: dict[Use, tuple[str, ...]] = {  # the first that is there is taken
    "train": ("train", "all"),
    "val": ("val", "test", "all", "train"),
    "test": ("test", "val", "all", "train"),
}
_BESIDE = MAPS[-1:]  # maps that `allfocus data make-maps` has made
_OWN = "pairs"


@dataclass(frozen=True)
class Found:
    """A data set that was recognised: its name and the pairs of each split."""

    name: str
    splits: Splits
    notes: tuple[str, ...] = field(default=())
    maps: Path | None = None  # where the first pair's map is looked for, if there may be one

    @property
    def every(self) -> list[Pair]:
        """Those of all splits."""
        return [pair for pairs in self.splits.values() for pair in pairs]

    def split_for(self, use: Use) -> str | None:
        """The split to take; None where there is none: what is judged on is not trained on."""
        return next((name for name in _SPLITS_FOR[use] if name in self.splits), None)

    def pairs(self, use: Use = "train") -> list[Pair]:
        """Those of `split_for`; none where that is None."""
        split = self.split_for(use)
        return self.splits[split] if split else []


@dataclass(frozen=True)
class Layout:
    """A data set's folders: what they look like, how that is known, and what reads them.

    `read` gives nothing where a folder is not of this layout; it raises InputError where it is, and
    something is wrong. `maps`: names of the folder of maps, beside that of blurry pictures;
    `without_maps` reads what `read` does but for them.
    """

    name: str
    shape: str
    source: str
    read: Callable[[Path], Splits]
    without_maps: Callable[[Path], Splits] | None = None
    maps: tuple[str, ...] = ()


def recognise(folder: Path, *, with_maps: bool = True) -> Found | None:
    """The data set in `folder`, or None; raises InputError where one is there and incomplete.

    Not `with_maps`, maps beside blurry and sharp pictures are not looked at, and may be missing.
    """
    for layout in LAYOUTS:
        read = layout.read if with_maps else layout.without_maps or layout.read
        splits = {name: pairs for name, pairs in read(folder).items() if pairs}
        if splits:
            notes = (*_order_note(splits), *(_scenes_note(splits) if layout.name == _OWN else ()))
            return _measured(Found(_name(layout, splits), splits, notes, _maps(layout, splits)))
    return None


def _dpdd(folder: Path, *, with_maps: bool = True) -> Splits:
    """Maps of one's own making lie beside a split's `source/`."""
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
        lists = [_pictures(base / "source"), _pictures(base / "target"), *views]
        maps = subfolder(base, *_BESIDE) if with_maps else None
        splits[split] = paired(folder, lists, None if maps is None else list_images(maps))
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
    scenes = {p.name: list_images(p) for p in folders(inputs)}
    sharp = {p.stem: p for p in truths}
    lonely = sorted(scenes.keys() ^ sharp.keys()) + [n for n, found in scenes.items() if not found]
    if lonely:
        raise InputError(
            f"{folder}: scenes without blurry pictures or without a sharp one: "
            f"{', '.join(lonely[:5])}; expected input/NAME/*.png and ground_truth/NAME.png"
        )
    return [Pair(blurry, sharp[name], None) for name in scenes for blurry in scenes[name]]


def _sdd(folder: Path) -> Splits:
    """Not where there are maps, or a part to validate on: SDD has neither, one's own pairs may."""
    splits: Splits = {}
    known = (("train", "train_patches"), ("train", "train"), ("test", "test"))
    bases = [(split, folder / name) for split, name in known if (folder / name).is_dir()]
    if subfolder(folder, "val", "valid", "validation"):
        return splits
    if any(subfolder(base, *MAPS) for _, base in bases):
        return splits
    for split, base in bases:
        if split not in splits:
            splits[split] = pairs_in(base, ("blur",), ("gt",), with_maps=False)
    return splits


def _dut(folder: Path) -> Splits:
    """Folders DUT600S_Training and DUT600GT_Training, DUT500S-Testing and DUT500GT-Testing."""
    splits: Splits = {}
    for base in folders(folder):
        known = re.fullmatch(r"((?:DUT|CUHK)\d+)S([-_])(Train|Test)ing", base.name)
        if not known:
            continue
        split = known[3].lower()
        if split in splits:
            raise InputError(
                f"{folder}: {base.name} is not the only {split} part in it; move each data set "
                "into a folder of its own"
            )
        masks = folder / f"{known[1]}GT{known[2]}{known[3]}ing"
        splits[split] = _masked(folder, _pictures(base), _pictures(masks))
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


def _realdof(folder: Path, *, with_maps: bool = True) -> Splits:
    """RealDOF, and a single split of DPDD, where maps are made for it."""
    pairs = pairs_in(folder, ("source",), ("target",), with_maps=with_maps)
    return {"all": pairs} if pairs else {}


def _ded(folder: Path, *, with_maps: bool = True) -> Splits:
    pairs = pairs_in(folder, ("image",), ("sharp",), with_maps=with_maps)
    return {"all": pairs} if pairs else {}


LAYOUTS = (
    Layout(
        "DPDD",
        "{train,val,test}_c/{source,target}, views in {train,val,test}_{l,r}/source; maps of one's "
        "own in {train,val,test}_c/defocus",
        "README of the public repository Abdullah-Abuolaim/defocus-deblurring-dual-pixel",
        _dpdd,
        partial(_dpdd, with_maps=False),
        _BESIDE,
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
        "source + target (50 pairs); maps of one's own in defocus",
        "configs/config.py of the public repository codeslake/IFAN",
        _realdof,
        partial(_realdof, with_maps=False),
        MAPS,
    ),
    Layout(
        "DED",
        "image + sharp + filtered (the maps), names ending in one number",
        "DID-ANet's public data set",
        _ded,
        partial(_ded, with_maps=False),
        MAPS,
    ),
    Layout(
        _OWN,
        "blurry (or blur, image, input, lq) + sharp (or target, gt), maps in defocus; inputC + "
        "target with the views inputL + inputR; or such folders in train, val and test, or in "
        "those a folder of them for each scene",
        "docs/GoPro.md of the public repository megvii-research/NAFNet; "
        "Defocus_Deblurring of swz30/Restormer",
        pair_folders.read,
        partial(pair_folders.read, with_maps=False),
        MAPS,
    ),
)
BY_ORDER = "paired by their places in order, since names and numbers differ"
_COUNTS = {"RealDOF": {50}, "DED": {1012, 100, 1112}}  # pairs that a folder of this name has
_REALISTIC = 22  # likewise, of a data set that is in any of these folders


def _name(layout: Layout, splits: Splits) -> str:
    """The data set's name, where the number of pairs agrees; others use such folders too."""
    count = sum(map(len, splits.values()))
    if count == _REALISTIC and layout.name in (*_COUNTS, _OWN):
        return "Realistic"
    if count in _COUNTS.get(layout.name, {count}):
        return layout.name
    return f"pairs in {layout.name}'s layout"


def _order_note(splits: Splits) -> tuple[str, ...]:
    ordered = [name for name, pairs in splits.items() if any(pair.by_order for pair in pairs)]
    if not ordered:
        return ()
    return (f"{BY_ORDER}: {', '.join(ordered)}; right only where none is missing",)


def _scenes_note(splits: Splits) -> tuple[str, ...]:
    """Folders that were taken together are named: others than scenes may stand there too."""
    bases = {s: sorted({p.blurry.parent.parent.name for p in pairs}) for s, pairs in splits.items()}
    return tuple(
        f"{split}: the pairs of {len(names)} folders, {', '.join(names[:5])}"
        f"{' ...' if len(names) > 5 else ''}"
        for split, names in bases.items()
        if len(names) > 1
    )


def _maps(layout: Layout, splits: Splits) -> Path | None:
    """Where maps of the first pair are looked for, if pairs of this layout have such."""
    base = next(iter(splits.values()))[0].blurry.parent.parent
    return subfolder(base, *layout.maps) or base / MAPS[-1] if layout.maps else None


def _measured(found: Found) -> Found:
    """With what white means in detection masks: seen from the pictures, since papers differ."""
    masked = [p for p in found.every if p.sharp is None]
    if not masked:
        return found
    white: White = "sharp" if white_is_sharp(masked) else "blurred"
    splits = {n: [replace(p, white=white) for p in pairs] for n, pairs in found.splits.items()}
    note = f"white in the masks is {white}, going by the detail there"
    return replace(found, splits=splits, notes=(*found.notes, note))


def _masked(folder: Path, images: list[Path], masks: list[Path]) -> list[Pair]:
    rows = match(folder, ("pictures", "masks"), images, masks)
    return [Pair(image, None, mask, by_order=rows.by_order) for image, mask in rows.files]


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: missing; the rest of its data set is there")
    return list_images(folder)
