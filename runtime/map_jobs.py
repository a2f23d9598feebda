"""Which two views make which map, before any is read: for `allfocus map`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from allfocus.runtime.errors import UsageError
from allfocus.runtime.jobs import (
    Naming,
    and_more,
    file_key,
    map_in,
    names_a_file,
    plan,
    refuse_mistyped,
)


@dataclass(frozen=True, kw_only=True)
class Views:
    """The two views of one picture, and the map to write."""

    left: Path
    right: Path
    target: Path


def plan_views(
    left: Path, right: Path, out: Path, *, recursive: bool, overwrite: bool
) -> list[Views]:
    """One for each picture of `left`, a file or a folder, with that of the same name in `right`.

    A map NAME-defocus.png lies in the folder `out` as its left view does in `left`; of two files,
    `out` may be a file's name. What is such a map already, or lies in `out`, is no view. Raises
    UsageError where views have no other, and for maps that are there already without `overwrite`
    or that would be written over views, and InputError where there is no picture.
    """
    _refuse_kinds(left, right)
    if left.is_dir():
        jobs = _of_folders(left, right, out, recursive)
    else:
        refuse_mistyped(out)
        target = out if names_a_file(out) else map_in(out, left.stem)
        jobs = [Views(left=left, right=right, target=target)]
    _refuse_outputs(jobs, overwrite)
    return jobs


def _refuse_kinds(left: Path, right: Path) -> None:
    for path in (left, right):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    if left.is_dir() != right.is_dir():
        one, other = (left, right) if right.is_dir() else (right, left)
        raise UsageError(
            f"{one} is a file and {other} a folder: expected two files, or two folders with the "
            "views of one picture under the same name"
        )
    if file_key(left) == file_key(right):
        raise UsageError(f"{left}: given twice; expected the left views, and the right ones")


def _of_folders(left: Path, right: Path, out: Path, recursive: bool) -> list[Views]:
    lefts, rights = (_views_in(folder, out, recursive) for folder in (left, right))
    for here, there, names in ((left, right, lefts - rights), (right, left, rights - lefts)):
        if names:
            raise UsageError(
                f"{here / min(names)}: no other view of that name in {there}{and_more(names)}; "
                "give both views of a picture the same name"
            )
    return [
        Views(left=left / name, right=right / name, target=map_in(out / name.parent, name.stem))
        for name in sorted(lefts)
    ]


def _views_in(folder: Path, out: Path, recursive: bool) -> set[Path]:
    """The names of the pictures below `folder` that are no maps of others."""
    jobs = plan([str(folder)], out, Naming(), recursive=recursive, overwrite=True)
    names = {job.source.relative_to(folder) for job in jobs}
    maps = {map_in(name.parent, name.stem) for name in names}
    return names - maps


def _refuse_outputs(jobs: Sequence[Views], overwrite: bool) -> None:
    views = {file_key(view): view for job in jobs for view in (job.left, job.right)}
    owners: dict[object, Views] = {}
    for job in jobs:
        key = file_key(job.target)
        if job.target.suffix.lower() != ".png":
            raise UsageError(f"{job.target}: maps are PNG; give a name that ends in .png")
        if key in views:
            raise UsageError(f"{job.target} is a view, and would be written over: choose another")
        other = owners.setdefault(key, job)
        if other is not job:
            raise UsageError(
                f"{other.left} and {job.left} would both be written to {job.target}; give them "
                "different names"
            )
    standing = [job.target for job in jobs if job.target.exists()]
    if standing and not overwrite:
        raise UsageError(
            f"{standing[0]} is there already{and_more(standing)}: choose another folder, or allow "
            "it with --overwrite"
        )
