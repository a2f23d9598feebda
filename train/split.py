"""What a run trains on and what it is validated on, opened; no picture file is both.

Data sets of patches may have several of one photo in files of their own, on both sides.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pictures.formats import format_of
from allfocus.train.data import (
    DEAD_LEAVES,
    Items,
    Pair,
    PairSamples,
    Samples,
    find,
    find_with_validation,
    hold_out,
    make_samples,
)
from allfocus.train.datasets import BY_ORDER
from allfocus.train.decoded import Decoded
from allfocus.train.disparity import companion
from allfocus.train.map_range import check_range
from allfocus.train.recipe import Recipe
from allfocus.train.rendered import Rendered
from allfocus.train.skips import Skips
from allfocus.train.store import ABOUT
from allfocus.train.synthetic import rich
from allfocus.train.tint import Tinted

_LOG = logging.getLogger("allfocus.train")
_SCENES = 4  # folders of pairs, from which on each is a scene; fewer may be data sets
_SIDE = 128  # pixels: validation crops of a --val folder are this wide where its pictures are


@dataclass(frozen=True)
class Split:
    """Samples to train on and held-out ones, drawn with another seed, and the files of each.

    `held_files` is empty where what is held out is a part of the training data.
    """

    samples: Tinted
    held_out: Samples
    files: set[Path]
    held_files: set[Path]


def open_split(
    data: Path, val: Path | None, recipe: Recipe, decoded: Decoded | None = None
) -> Split:
    """The pictures of `data`, and those of `val`, or of the data set's own `val` split, or else one
    scene in ten, for `recipe`.

    Pairs are kept in `decoded`.

    Raises UsageError where they lack what the recipe learns from or `val` is not apart from `data`,
    InputError where nothing can be read, or over 1 % of a folder cannot.
    """
    plan, (items, own) = recipe.plan, find_with_validation(data)
    check_range(item for item in items if isinstance(item, Pair))
    _tell_order(data, items)
    _tell_maps(data, items)
    if decoded is not None and decoded.folder is not None and not isinstance(items[0], Pair):
        _LOG.warning("--cache: nothing to keep, as %s holds no pairs; the rest is decoded", data)
    files, skips = files_of(items), Skips(len(items))
    apart = _set_apart(val, own)
    if apart:
        where, held = apart
        check_range(item for item in held if isinstance(item, Pair))
        _check_apart(data, files, where, files_of(held), given=bool(val))
        side = plan.crop if recipe.one_side else _side(held, plan.crop)
        held_skips = Skips(len(held))
    else:
        (items, held), side = hold_out_scenes(items), plan.crop
        held_skips = skips.part(len(items))
    made = partial(_made, recipe=recipe, decoded=decoded)
    trained = made(items, plan.crop, plan.seed, skips=skips)
    samples = Tinted(trained, plan.tints, plan.seed)
    held_out = made(held, side, plan.seed + 1, skips=held_skips, varied=False)
    _check_data(recipe, data, samples)
    recipe.go_without(str(data), has_map=samples.has_map)
    if apart:
        _check_data(recipe, apart[0], held_out)
    held_out[0]  # what cannot be validated on is told now, not after the training
    if isinstance(held_out, PairSamples):
        held_out.read_all()  # likewise; photos were read when they were opened
    return Split(samples, held_out, files, files_of(held) if apart else set())


def _set_apart(val: Path | None, own: list[Pair]) -> tuple[Path, Items] | None:
    """What is validated on, and where it lies: `val`, or else the data set's `own` split for it;
    None where there is neither.
    """
    if val:
        return val, find(val, "val")
    if not own:
        return None
    where = own[0].blurry.parent.parent
    _LOG.info("validating on %d pairs of %s", len(own), where)
    return where, own


def _check_data(recipe: Recipe, folder: Path, samples: Samples | Tinted) -> None:
    recipe.check_data(
        str(folder),
        has_map=samples.has_map,
        has_sharp=samples.has_sharp,
        has_views=samples.has_views,
    )


def _tell_order(folder: Path, items: Items) -> None:
    if any(isinstance(item, Pair) and item.by_order for item in items):
        _LOG.warning(
            "%s: %s; right only where none is missing: see `allfocus data check`", folder, BY_ORDER
        )


def _tell_maps(folder: Path, items: Items) -> None:
    pairs = [item for item in items if isinstance(item, Pair)]
    without = [pair for pair in pairs if pair.defocus is None]
    if 0 < len(without) < len(pairs):
        _LOG.warning(
            "%s: %d of %d pairs have no map (%s), so that no map is used; make the others by "
            "`allfocus data make-maps`",
            *(folder, len(without), len(pairs), without[0].blurry),
        )


def _made(
    items: Items,
    side: int,
    seed: int,
    *,
    recipe: Recipe,
    skips: Skips,
    decoded: Decoded | None,
    varied: bool = True,
) -> Samples:
    """What `recipe` learns from: photos are blurred by everything that the generator has."""
    drawn = rich(recipe.blur, views=recipe.views, misaligned=recipe.misaligned)
    # White in maps of files is what a batch's map is divided by.
    white = recipe.max_radius
    return make_samples(
        *(items, side, seed, drawn), white=white, skips=skips, decoded=decoded, varied=varied
    )


def hold_out_scenes(items: Items) -> tuple[Items, Items]:
    """As `hold_out`, but of scenes: all pairs of one sharp picture stay together, where there are
    folders for scenes all of a folder, and of rendered samples those are held out that show other
    photos.
    """
    rendered = [item for item in items if isinstance(item, Rendered)]
    if any(item.held_out for item in rendered):
        parts = [[item for item in rendered if item.held_out == side] for side in (False, True)]
        return parts[0], parts[1]
    if rendered:
        _LOG.warning(
            "%s: its samples all show the same photos, those that are validated on too; render it "
            "again, or give --val",
            rendered[0].folder,
        )
    scenes: dict[Path | int, list[Any]] = {}
    by_folder = _folders(items) >= _SCENES
    every: list[Path | Pair | Rendered] = [*items]
    places: dict[Path, Path] = {}
    for index, item in enumerate(every):
        scenes.setdefault(_scene(index, item, places, by_folder=by_folder), []).append(item)
    kept, held = hold_out(cast("Items", list(scenes.values())))
    return _flat(kept), _flat(held)


def _scene(
    index: int, item: Path | Pair | Rendered, places: dict[Path, Path], *, by_folder: bool
) -> Path | int:
    """What tells the scene of an item: its sharp picture, whatever links lead to it, or `by_folder`
    the folder that holds its pairs. `places` are folders whose links were followed already.
    """
    if isinstance(item, Pair):
        shown = item.sharp or item.blurry
        return _place(shown.parent.parent, places) if by_folder else _real(shown, places)
    return _real(item, places) if isinstance(item, Path) and item != DEAD_LEAVES else index


def _real(path: Path, places: dict[Path, Path]) -> Path:
    return path.resolve() if path.is_symlink() else _place(path.parent, places) / path.name


def _place(folder: Path, places: dict[Path, Path]) -> Path:
    if folder not in places:
        places[folder] = folder.resolve()
    return places[folder]


def _folders(items: Items) -> int:
    """Of how many folders pairs are; two or three may be data sets, and are told."""
    pairs = [item for item in items if isinstance(item, Pair)]
    folders = {(pair.sharp or pair.blurry).parent.parent for pair in pairs}
    if 1 < len(folders) < _SCENES:
        _LOG.warning(
            "pairs of %d folders: one in ten is held out, of each folder alike; where those of one "
            "show one scene, give --val with other scenes",
            len(folders),
        )
    return len(folders)


def _flat(scenes: Items) -> Items:
    return cast("Items", list(chain.from_iterable(cast("list[list[Any]]", scenes))))


def files_of(items: Items) -> set[Path]:
    """All files that samples are made of; none of generated scenes."""
    files: set[Path] = set()
    for item in items:
        if isinstance(item, Pair):
            files.update(item.files)
        elif isinstance(item, Path) and item != DEAD_LEAVES:
            files.update(filter(None, (item, companion(item))))
    for folder in {item.folder for item in items if isinstance(item, Rendered)}:
        files.update((folder / ABOUT, *folder.glob("*.npy")))
    return files


def _check_apart(data: Path, files: set[Path], val: Path, held: set[Path], *, given: bool) -> None:
    both = {file.resolve() for file in files} & {file.resolve() for file in held}
    if not both:
        return
    more = f" and {len(both) - 1} more" if len(both) > 1 else ""
    advice = "give other pictures" if given else f"take them out of {val}, or give --val"
    raise UsageError(
        f"{'--val ' if given else ''}{val}: {min(both)}{more} would be both trained on (--data "
        f"{data}) and validated on; {advice}"
    )


def _side(held: Items, crop: int) -> int:
    """Of validation crops, pixels: the training's where a picture is too small for larger ones."""
    wanted = max(crop, _SIDE)
    return wanted if wanted == crop or all(_smallest(item) >= wanted for item in held) else crop


def _smallest(item: Path | Pair | Rendered) -> float:
    """The shorter side of a picture, pixels; infinite for photos, which are enlarged as needed, and
    for what cannot be read, which whoever reads it reports.
    """
    try:
        if isinstance(item, Rendered):
            return int(json.loads((item.folder / ABOUT).read_text(encoding="utf-8"))["side"])
        if isinstance(item, Pair):
            data = item.blurry.read_bytes()
            header = format_of(data[:64]).inspect(data)
            return min(header.width, header.height)
    except (OSError, InputError):
        pass
    return float("inf")
