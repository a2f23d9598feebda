"""From the words of a command line to a list of pictures to read and files to write.

Everything that can be known to go wrong before the work is found here: two pictures of one name,
an output that stands already or is an input.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pictures.formats import SUFFIXES, format_for

log = logging.getLogger("allfocus")

# Pictures by their names too, which nothing here reads or writes.
_OTHERS = (
    *(".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".exr", ".hdr", ".psd", ".tga"),
    *(".pbm", ".pgm", ".ppm", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"),
)


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How outputs are named, and which there are beside the picture."""

    suffix: str = ""  # put between name and extension
    defocus: bool = False  # NAME-defocus.png, the map
    view: bool = False  # NAME-defocus-view.png, the map in colours
    trust: bool = False  # NAME-trust.png, how far the output explains its input

    def __post_init__(self) -> None:
        if Path(f"x{self.suffix}").name != f"x{self.suffix}":
            raise UsageError(
                f"--suffix {self.suffix!r}: expected a part of a name, as in --suffix=-sharp"
            )


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to read and the files it becomes."""

    source: Path
    target: Path
    defocus: Path | None
    view: Path | None
    trust: Path | None = None
    given: Path | None = None  # a map of blur radii to read, in place of an estimated one

    def outputs(self) -> tuple[Path, ...]:
        """Every file that is written."""
        return tuple(p for p in (self.target, self.defocus, self.view, self.trust) if p is not None)


def plan(
    inputs: Sequence[str],
    out: Path,
    naming: Naming,
    *,
    recursive: bool,
    overwrite: bool,
    resume: bool = False,
    maps: Path | None = None,
) -> list[Job]:
    """The jobs for `inputs` (files, folders, patterns) and `out` (a file or a folder).

    A folder's pictures keep their place below it, all others their name. A file that is not there
    is left to whoever reads it; pictures of other kinds in a folder are logged. Outputs that are
    there already are refused, unless `overwrite` allows all, or `resume` those that are no input.
    With `maps`, each has its own: see `under_maps`. Raises UsageError for these and for outputs
    that clash, and InputError where a folder or pattern holds no picture, or a folder of folders
    cannot be read.
    """
    one = _is_one_file(inputs)
    if one:
        refuse_mistyped(out)
    if one and names_a_file(out):
        pairs = [(Path(inputs[0]), out)]
    else:
        _check_folder(out)
        pairs = [(source, out / name) for source, name in _expand(inputs, out, recursive)]
        for source, _ in pairs:
            _check_name(source)
    jobs = [job_for(source, target, naming) for source, target in pairs]
    if maps is not None:
        jobs = under_maps(jobs, maps, out)
    if resume:
        jobs = _resumed(jobs)
    _refuse_clashes(jobs)
    if not (overwrite or resume):
        _refuse_existing(jobs)
    return jobs


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that stand in `folder` itself, by their names, sorted.

    Raises InputError where there is none.
    """
    return _pictures(str(folder), folder.iterdir(), folder, folder, "")


def job_for(source: Path, target: Path, naming: Naming) -> Job:
    """The job that writes `target`, with the suffix of `naming`, and what that wants beside it.

    Raises UsageError where the name is that of no format that can be written.
    """
    target = target.with_name(f"{target.stem}{naming.suffix}{target.suffix}")
    format_for(target)
    folder, stem = target.parent, target.stem
    return Job(
        source=source,
        target=target,
        defocus=map_in(folder, stem) if naming.defocus else None,
        view=_beside(folder, stem, "defocus-view") if naming.view else None,
        trust=_beside(folder, stem, "trust") if naming.trust else None,
    )


def map_in(folder: Path, stem: str) -> Path:
    """The map of blur radii of a picture `stem`, where `--map-from` looks for it too."""
    return _beside(folder, stem, "defocus")


def _beside(folder: Path, stem: str, end: str) -> Path:
    return folder / f"{stem}-{end}.png"


def under_maps(jobs: Sequence[Job], maps: Path, out: Path) -> list[Job]:
    """`jobs`, planned for `out`, with the map of each: the file `maps`, or in that folder, at the
    picture's place, NAME-defocus.png of a picture NAME, or of its output's name. Pictures that are
    such maps are left out.

    Raises UsageError where one is missing, would be for several pictures, or written over.
    """
    if not maps.is_dir() and len(jobs) != 1:
        raise UsageError(
            f"--map-from {maps}: expected a folder with a map NAME-defocus.png for each of "
            f"{len(jobs)} pictures, got {'a file' if maps.exists() else 'nothing there'}"
        )
    found = [replace(job, given=_map_of(job, maps, out)) for job in jobs]
    taken = {file_key(job.given) for job in found if job.given is not None and job.given.is_file()}
    left = [job for job in found if file_key(job.source) not in taken]
    if not left:
        raise UsageError(f"--map-from {maps}: no picture is left, but maps; expected pictures too")
    _refuse_maps(left, maps)
    return left


def _map_of(job: Job, maps: Path, out: Path) -> Path:
    if not maps.is_dir():
        return maps
    place = job.target.parent.relative_to(out) if out in job.target.parents else Path()
    stems = dict.fromkeys((job.source.stem, job.target.stem))  # that of a run with --suffix too
    named = [map_in(maps / place, stem) for stem in stems]
    return next((path for path in named if path.is_file()), named[0])


def _refuse_maps(jobs: Sequence[Job], maps: Path) -> None:
    given = {job.source: job.given for job in jobs if job.given is not None}
    missing = [source for source, path in given.items() if not path.is_file()]
    if missing:
        raise UsageError(
            f"{missing[0]}: no map {given[missing[0]]}{and_more(missing)}: --map-from {maps}"
        )
    written = {file_key(path) for job in jobs for path in job.outputs() if path.exists()}
    owners: dict[object, Path] = {}
    for source, path in given.items():
        if file_key(path) in written:
            raise UsageError(f"--map-from: {path} would be written over; choose another --out")
        other = owners.setdefault(file_key(path), source)
        if other != source:
            raise UsageError(
                f"--map-from: {other} and {source} would both be done by {path}; do one after the "
                "other"
            )


def _is_one_file(inputs: Sequence[str]) -> bool:
    if len(inputs) != 1 or Path(inputs[0]).is_dir():
        return False
    return Path(inputs[0]).exists() or not glob.has_magic(inputs[0])


def names_a_file(out: Path) -> bool:
    """Whether `out` is the name of a picture, and no folder has it.

    Raises UsageError where it is that of a picture that cannot be written.
    """
    if out.suffix.lower() in _OTHERS and not out.is_dir():
        format_for(out)
    return out.suffix.lower() in SUFFIXES and not out.is_dir()


def refuse_mistyped(out: Path) -> None:
    """Raise UsageError for what looks like the name of a file, of no kind that is known."""
    if out.suffix.lower() in SUFFIXES or out.exists():
        return
    if re.fullmatch(r"\.[a-zA-Z]{3,4}", out.suffix):
        raise UsageError(
            f"{out}: no picture is written with the suffix {out.suffix}; use one of "
            f"{', '.join(SUFFIXES)}. If it is to be a folder, make it first"
        )


def _check_folder(out: Path) -> None:
    if names_a_file(out):
        raise UsageError(f"{out}: the name of one picture, for several; give a folder to --out")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: a file, where a folder was expected; give another --out")


def _expand(inputs: Sequence[str], out: Path, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """Each picture once, with its path below the output folder.

    A link is a picture by itself, whose output has its name.
    """
    seen = set()
    for text in inputs:
        for source, name in _matches(text, out, recursive):
            place = os.path.normcase(os.path.abspath(source))  # noqa: PTH100  # links stay
            if place not in seen:
                seen.add(place)
                yield source, name


def _matches(text: str, out: Path, recursive: bool) -> list[tuple[Path, Path]]:
    path = Path(text)
    if path.is_dir():
        found = _walk(path) if recursive else path.iterdir()
        more = "" if recursive else "; --recursive looks into its folders too"
        return [(p, p.relative_to(path)) for p in _pictures(text, found, path, out, more)]
    if path.exists() or not glob.has_magic(text):
        return [(path, Path(path.name))]
    # not Path.glob, which takes no absolute pattern
    found = (Path(p) for p in glob.iglob(text, recursive=True))  # noqa: PTH207
    base = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
    return [(p, Path(p.name)) for p in _pictures(text, found, base, out, "")]


def _walk(folder: Path) -> Iterator[Path]:
    """All files below; raises InputError for a folder that cannot be read, as rglob does not."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: a folder that cannot be read ({error.strerror}); see its rights, "
            "or name the folders that are wanted"
        )

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(place, name) for name in names)


def _check_name(source: Path) -> None:
    """Raise UsageError where an output cannot have the name of what is no picture by its own."""
    if source.suffix.lower() in SUFFIXES:
        return
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder")
    raise UsageError(
        f"{source}: no picture by its name, which its output would have; expected one of "
        f"{', '.join(SUFFIXES)}, or a name for one output: --out NAME.png"
    )


def _pictures(text: str, found: Iterable[Path], base: Path, out: Path, advice: str) -> list[Path]:
    """Those of `found` that are pictures by their name, sorted, without what stands in `out`.

    Only an `out` within `base` is left out: there, an earlier run's outputs would be taken for
    inputs. Raises InputError where none is left.
    """
    found = list(found)
    _tell_others(text, found)
    written = Path(_key(out))
    inside = Path(_key(base)) in written.parents
    pictures = sorted(
        path
        for path in found
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and (path.is_file() or _leads_nowhere(path))
        and not (inside and written in Path(_key(path)).parents)
    )
    if not pictures:
        raise InputError(f"{text}: no picture there ({', '.join(SUFFIXES)}){advice}")
    return pictures


def _tell_others(text: str, found: Iterable[Path]) -> None:
    """Pictures that nobody asked to leave out are not left out in silence."""
    counts = Counter(path.suffix.lower() for path in found if not path.name.startswith("."))
    others = {kind: counts[kind] for kind in _OTHERS if counts[kind]}
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.items())
        log.warning(
            "%s: left out, since they cannot be read here: %s; convert them to PNG or TIFF",
            text,
            kinds,
        )


def _leads_nowhere(path: Path) -> bool:
    """Whether it is a link to what is not there: a picture that is missed, and told when read."""
    return path.is_symlink() and not path.exists()


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    owners: dict[str, Job] = {}
    for job in jobs:
        for path in job.outputs():
            other = owners.setdefault(_key(path), job)
            if other is not job:
                raise UsageError(
                    f"{other.source} and {job.source} would both be written to {path}; run them "
                    "one after the other into different folders, or name a folder above both with "
                    "--recursive"
                )


def _refuse_existing(jobs: Sequence[Job]) -> None:
    sources = {file_key(job.source) for job in jobs}
    standing = [path for job in jobs for path in job.outputs() if path.exists()]
    if not standing:
        return
    first = next((path for path in standing if file_key(path) in sources), None)
    what = "there already" if first is None else "an input"
    raise UsageError(
        f"{first or standing[0]} is {what}{and_more(standing)}: choose another folder, add "
        "--suffix=-sharp, or allow it with --overwrite"
    )


def _resumed(jobs: Sequence[Job]) -> list[Job]:
    """`jobs` without those for what an earlier run wrote beside its inputs, and now is among them.

    Raises UsageError where an input would be written over.
    """
    sources = {file_key(job.source) for job in jobs}
    written = {
        file_key(p) for job in jobs for p in job.outputs() if file_key(p) != file_key(job.source)
    }
    left = [job for job in jobs if file_key(job.source) not in written]
    for job in left:
        _refuse_inputs(job, sources)
    return left


def _refuse_inputs(job: Job, sources: set[object]) -> None:
    """Nothing tells whether an earlier run wrote over an input: it would be made sharp twice."""
    standing = [path for path in job.outputs() if path.exists()]
    if file_key(job.source) in map(file_key, standing):
        raise UsageError(
            f"{job.source} is an input and would be written over, and --resume cannot tell whether "
            "it was: choose another folder, or add --suffix=-sharp; --overwrite, without --resume, "
            "allows it"
        )
    if len(standing) == len(job.outputs()):  # done: nothing will be written
        return
    for path in standing:
        if file_key(path) in sources:
            raise UsageError(
                f"{path} is an input, and would be written again with what is missing beside it: "
                "remove it if an earlier run wrote it; else choose another folder or --suffix"
            )


def and_more(paths: Collection[Path]) -> str:
    """How many there are beside the one that an error names; nothing where it is the only one."""
    return f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""


def file_key(path: Path) -> object:
    """Equal for two names of one file, through hard links and in other letter case too."""
    try:
        found = path.stat()
    except OSError:
        return _key(path)
    return found.st_dev, found.st_ino


def _key(path: Path) -> str:
    """Equal for two names of one file."""
    return os.path.normcase(os.path.realpath(path))
