"""Photos that a command line names: files, folders, or the one that is always there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from allfocus.runtime.errors import UsageError
from allfocus.train.evaluation_pair import Frame
from allfocus.train.evaluation_scenes import load_photo
from allfocus.train.pairs import list_images, read_rgb

CHELSEA = "chelsea"  # scikit-image's photo of a cat, with shallow focus
HELP = f"files, folders, or {CHELSEA} (the default)"


def open_photos(words: Sequence[str], most: int | None = None) -> dict[str, Frame]:
    """What `words` name, by file name without its ending; of each folder the first `most` by name.

    Two files of one name are told apart by their paths. Raises UsageError for a folder without
    pictures, InputError for a file that cannot be read.
    """
    found: dict[str, Frame] = {}
    for word in words:
        path = Path(word)
        if word == CHELSEA and not path.exists():
            found[CHELSEA] = load_photo(CHELSEA)
            continue
        files = list_images(path)[:most] if path.is_dir() else [path]
        if not files:
            raise UsageError(f"{path}: no pictures in it")
        for file in files:
            found[str(file) if file.stem in found else file.stem] = read_rgb(file)
    return found
