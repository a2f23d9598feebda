"""From inputs and --out to jobs: names, folders, patterns, and everything refused before work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.jobs import Job, Naming, plan


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a/1.jpg a/2.PNG a/.hidden.jpg a/notes.txt a/deep/1.jpg b/1.jpg, and this folder as ours."""
    for name in ("a/1.jpg", "a/2.PNG", "a/.hidden.jpg", "a/notes.txt", "a/deep/1.jpg", "b/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(
    *inputs: str,
    out: str = "out",
    naming: Naming | None = None,
    recursive: bool = False,
    overwrite: bool = False,
    resume: bool = False,
) -> list[Job]:
    naming = naming or Naming()
    return plan(inputs, Path(out), naming, recursive=recursive, overwrite=overwrite, resume=resume)


def pairs(jobs: list[Job]) -> list[tuple[str, str]]:
    return [(job.source.as_posix(), job.target.as_posix()) for job in jobs]


def test_one_file_to_a_file() -> None:
    assert pairs(planned("a/1.jpg", out="x/y.tif")) == [("a/1.jpg", "x/y.tif")]


def test_one_file_to_a_folder() -> None:
    assert pairs(planned("a/1.jpg")) == [("a/1.jpg", "out/1.jpg")]
    Path("named.png").mkdir()
    assert pairs(planned("a/1.jpg", out="named.png")) == [("a/1.jpg", "named.png/1.jpg")]


def test_a_folder_gives_its_pictures() -> None:
    assert pairs(planned("a")) == [("a/1.jpg", "out/1.jpg"), ("a/2.PNG", "out/2.PNG")]


def test_a_folder_of_folders_keeps_its_shape() -> None:
    found = pairs(planned("a", recursive=True))
    assert ("a/deep/1.jpg", "out/deep/1.jpg") in found
    assert len(found) == 3


@pytest.mark.parametrize(
    ("pattern", "sources"),
    [
        ("a/*.jpg", ["a/1.jpg"]),
        ("a/*", ["a/1.jpg", "a/2.PNG"]),
        ("a/**/2.*", ["a/2.PNG"]),
        ("?/deep/*.jpg", ["a/deep/1.jpg"]),
    ],
)
@pytest.mark.parametrize("absolute", [False, True])
def test_patterns(tree: Path, pattern: str, sources: list[str], absolute: bool) -> None:
    jobs = planned(str(tree / pattern) if absolute else pattern)
    assert [os.path.relpath(job.source) for job in jobs] == sources


def test_a_name_that_looks_like_a_pattern_is_a_file() -> None:
    Path("a/[1].jpg").touch()
    assert pairs(planned("a/[1].jpg", out="x.jpg")) == [("a/[1].jpg", "x.jpg")]


def test_a_picture_named_twice_is_done_once() -> None:
    assert len(planned("a/1.jpg", "a", "a/*.jpg")) == 2


def test_a_missing_file_is_left_to_the_reader() -> None:
    assert pairs(planned("a/1.jpg", "gone.jpg"))[1] == ("gone.jpg", "out/gone.jpg")


@pytest.mark.parametrize("out", ["a/out", "a"])
def test_what_an_earlier_run_wrote_is_not_an_input(out: str) -> None:
    Path("a/out").mkdir()
    Path("a/out/1.jpg").touch()
    naming = Naming(suffix="-new")
    found = pairs(planned("a", out=out, recursive=True, naming=naming, overwrite=True))
    assert (("a/out/1.jpg", f"{out}/out/1-new.jpg") in found) == (out == "a")
    assert ("a/1.jpg", f"{out}/1-new.jpg") in found
    found = pairs(planned("a/*.jpg", out=out, naming=naming))
    assert found == [("a/1.jpg", f"{out}/1-new.jpg")]


def test_maps_stand_beside_the_picture() -> None:
    (job,) = planned("a/1.jpg", naming=Naming(suffix="-x", defocus=True, view=True, trust=True))
    names = [path.name for path in job.outputs()]
    assert names == ["1-x.jpg", "1-x-defocus.png", "1-x-defocus-view.png", "1-x-trust.png"]


def test_two_pictures_of_one_name() -> None:
    with pytest.raises(UsageError, match=r"a.1\.jpg and b.1\.jpg would both be written to out"):
        planned("a/1.jpg", "b/1.jpg")


def test_a_map_on_the_place_of_a_picture() -> None:
    Path("a/1-defocus.png").touch()
    with pytest.raises(UsageError, match=r"would both be written to out.1-defocus\.png"):
        planned("a", naming=Naming(defocus=True))


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("out", ["a", "a/1.jpg", "./b/../a"])
def test_an_input_is_not_overwritten_unasked(tree: Path, out: str, absolute: bool) -> None:
    out = str(tree / out) if absolute else out
    with pytest.raises(UsageError, match=r"1\.jpg is an input: .*--suffix=-sharp.*--overwrite"):
        planned("a/1.jpg", out=out)
    assert len(planned("a/1.jpg", out=out, overwrite=True)) == 1


def test_an_output_is_not_overwritten_unasked() -> None:
    for name in ("1.jpg", "2-defocus.png"):
        Path("out").mkdir(exist_ok=True)
        Path("out", name).touch()
    with pytest.raises(UsageError, match=r"1\.jpg is there already \(and 1 more\)"):
        planned("a", naming=Naming(defocus=True))
    assert len(planned("a", overwrite=True)) == 2


def test_inputs_are_told_before_what_is_there_already() -> None:
    Path("b/0.jpg").touch()
    Path("a/0.jpg").touch()
    with pytest.raises(UsageError, match=r"b.1\.jpg is an input \(and 1 more\)"):
        planned("a/0.jpg", "b/1.jpg", out="b")


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("out", ["a", "./b/../a", "linked", "hard", "real"])
def test_resume_writes_over_no_input_by_whatever_name(out: str, view: bool) -> None:
    Path("linked").symlink_to("a")
    Path("hard").mkdir()
    Path("hard/1.jpg").hardlink_to("a/1.jpg")
    Path("real").mkdir()
    Path("real/2.PNG").touch()
    Path("a/2.PNG").unlink()
    Path("a/2.PNG").symlink_to("../real/2.PNG")
    with pytest.raises(UsageError, match=r"\.(jpg|PNG) is an input .*--resume.*--suffix=-sharp"):
        planned("a", out=out, naming=Naming(view=view), resume=True)


def test_a_link_is_a_picture_of_its_own() -> None:
    Path("a/0.jpg").symlink_to("1.jpg")
    Path("a/3.jpg").symlink_to("gone.jpg")  # is missed when it is read
    expected = ["0.jpg", "1.jpg", "2.PNG", "3.jpg"]
    assert [job.target.name for job in planned("a")] == expected
    assert len(planned("a", "a/1.jpg", "./a/../a/1.jpg")) == 4


def test_resume_takes_what_is_there_for_outputs() -> None:
    for name in ("1.jpg", "2-defocus.png"):
        Path("out").mkdir(exist_ok=True)
        Path("out", name).touch()
    assert len(planned("a", naming=Naming(defocus=True), resume=True)) == 2


def test_resume_takes_no_earlier_output_for_an_input() -> None:
    naming = Naming(suffix="-x", defocus=True)
    Path("a/1-x.jpg").touch()
    Path("a/1-x-defocus.png").touch()
    expected = [("a/1.jpg", "a/1-x.jpg"), ("a/2.PNG", "a/2-x.PNG")]
    assert pairs(planned("a", out="a", naming=naming, resume=True)) == expected


def test_resume_leaves_to_the_user_what_may_be_an_input_or_an_output() -> None:
    Path("a/1-x.jpg").touch()
    with pytest.raises(UsageError, match=r"a.1-x\.jpg is an input, .*remove it if an earlier run"):
        planned("a", out="a", naming=Naming(suffix="-x", defocus=True), resume=True)


@pytest.mark.parametrize(
    ("inputs", "out", "text"),
    [
        (("a",), "x.jpg", "the name of one picture, for several"),
        (("a/*.jpg",), "x.jpg", "the name of one picture, for several"),
        (("a/1.jpg", "b/1.jpg"), "x.jpg", "the name of one picture, for several"),
        (("a/1.jpg",), "x.gif", r"no picture is written with the suffix \.gif; use one of \.png"),
        (("a/1.jpg",), "sharp.jgp", "If it is to be a folder, make it first"),
        (("a",), "a/notes.txt", "a file, where a folder was expected"),
        (("a/notes.txt",), "out", r"a/notes\.txt: no picture by its name.*expected one of \.png"),
        (("a/photoz",), "out", "a/photoz: no such file or folder"),
    ],
)
def test_outputs_that_cannot_be_meant(inputs: tuple[str, ...], out: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        planned(*inputs, out=out)


def test_a_folder_that_is_there_may_have_any_name() -> None:
    Path("my.photo").mkdir()
    assert pairs(planned("a/1.jpg", out="my.photo")) == [("a/1.jpg", "my.photo/1.jpg")]
    assert pairs(planned("a/1.jpg", out="v1.2")) == [("a/1.jpg", "v1.2/1.jpg")]


def test_pictures_of_other_kinds_are_told(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("x.gif", "y.GIF", "z.heic", ".hidden.gif"):
        (Path("a") / name).touch()
    assert len(planned("a")) == 2
    assert caplog.messages == [
        "a: left out, since they cannot be read here: 2 .gif, 1 .heic; convert them to PNG or TIFF"
    ]


def test_nothing_to_do() -> None:
    Path("empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no picture there .*--recursive"):
        planned("empty")
    with pytest.raises(InputError, match=r"\*\.webp: no picture there"):
        planned("*.webp")


@pytest.mark.parametrize("suffix", ["/x", "x/../y"])
def test_a_suffix_is_part_of_a_name(suffix: str) -> None:
    with pytest.raises(UsageError, match="expected a part of a name, as in --suffix=-sharp"):
        Naming(suffix=suffix)


def test_a_folder_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures would be left out without a word."""
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.png").touch()
    scan = os.scandir

    def scandir(path: str) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    says = r"locked: a folder that cannot be read \(Permission denied\); see its rights"
    with pytest.raises(InputError, match=says):
        planned(str(tmp_path), out=str(tmp_path / "out"), recursive=True)
    assert planned(str(tmp_path), out=str(tmp_path / "out"))
