"""What a run writes down: rows, TensorBoard's events, sheets; and what it says when it cannot."""

from __future__ import annotations

import csv
import errno
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from full_disk import full_after
from recipe_runs import photos, train

from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.train.data import find, make_samples
from allfocus.train.log import Log
from allfocus.train.models import build
from allfocus.train.sheets import SHOWN, Sheets, can_show, sheet_file
from allfocus.train.synthetic import Recipe


def rows(out: Path) -> list[list[str]]:
    with (out / "log.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_a_resumed_log_goes_on_after_the_last_saved_step(tmp_path: Path) -> None:
    log = Log(tmp_path, ("deblur", "map"), 0, events=False)
    for step in range(4):
        log.write(step, 1, 0.5, {"deblur": 0.25})
    log.close()
    again = Log(tmp_path, ("deblur", "map"), 2, events=False)
    again.write(2, 2, 0.125, {"deblur": 0.1, "map": 0.025})
    again.close()
    assert rows(tmp_path) == [
        ["step", "stage", "loss", "deblur", "map"],
        ["0", "1", "0.5", "0.25", ""],
        ["1", "1", "0.5", "0.25", ""],
        ["2", "2", "0.125", "0.1", "0.025"],
    ]


def test_a_log_without_a_new_column_goes_on(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    log = Log(tmp_path, ("map", "deblur", "keep"), 2, events=False)
    log.write(2, 1, 0.5, {"deblur": 0.25, "keep": 0.25})
    log.close()
    assert rows(tmp_path) == [
        ["step", "stage", "loss", "map", "deblur", "keep"],
        ["0", "1", "0.5", "", "0.25", ""],
        ["1", "1", "0.5", "", "0.25", ""],
        ["2", "1", "0.5", "", "0.25", "0.25"],
    ]


def test_a_full_disk_is_named_and_the_state_kept(tmp_path: Path) -> None:
    log = Log(tmp_path, (), 0, events=False)

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log._writer = SimpleNamespace(writerow=full)  # type: ignore[assignment]
    with pytest.raises(AllfocusError, match=r"log\.csv: No space left.*last saved state is kept"):
        log.write(0, 1, 0.5, {})
    log.close()


def filled(out: Path, count: int) -> bytes:
    log = Log(out, ("deblur",), 0, events=False)
    for step in range(count):
        log.write(step, 1, 0.5, {"deblur": 0.25})
    log.close()
    return (out / "log.csv").read_bytes()


def test_a_full_disk_costs_no_row_of_a_resumed_log(tmp_path: Path) -> None:
    before = filled(tmp_path, 1000)
    with full_after(4096), pytest.raises(AllfocusError, match=r"cannot write .*log\.csv"):
        Log(tmp_path, ("deblur",), 900, events=False)
    assert (tmp_path / "log.csv").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize("cut", ["12", "12,1", "12,1,0.5,0.2", "\0\0\0", "\0\0\n", "caf\udce9\n"])
def test_a_row_that_was_cut_short_is_dropped(tmp_path: Path, cut: str) -> None:
    whole = filled(tmp_path, 30)
    with (tmp_path / "log.csv").open("a", errors="surrogateescape") as file:
        file.write(cut)
    log = Log(tmp_path, ("deblur",), 30, events=False)
    log.write(30, 1, 0.5, {"deblur": 0.25})
    log.close()
    assert (tmp_path / "log.csv").read_bytes() == whole + b"30,1,0.5,0.25\r\n"


class Events:
    """Stands in for TensorBoard's writer, which is not installed where this runs."""

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.scalars: list[tuple[str, float, int]] = []
        self.closed = False

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def close(self) -> None:
        self.closed = True


def test_events_hold_what_the_rows_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = SimpleNamespace(SummaryWriter=Events)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    log = Log(tmp_path, ("deblur",), 3, events=True)
    log.write(3, 2, 0.5, {"deblur": 0.25})
    log.close()
    events = log._events
    assert events.purge_step == 3
    assert events.scalars == [("loss", 0.5, 3), ("stage", 2, 3), ("deblur", 0.25, 3)]
    assert events.closed


def test_without_tensorboard_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="pip install tensorboard"):
        Log(tmp_path, (), 0, events=True)


@pytest.mark.parametrize(
    ("model", "columns"),
    [("didanet-tiny", 5), ("jdrl-unet-tiny", 4), ("apl-tiny", 5), ("apl-detect-tiny", 5)],
)
def test_a_sheet_shows_input_output_truth_and_maps(
    tmp_path: Path, model: str, columns: int
) -> None:
    samples = make_samples(find(photos(tmp_path)), 32, 0, Recipe())
    net = build(model).train()
    sheets = Sheets(net, samples, tmp_path / "run")
    assert sheets.write(7) == {}
    sheet = cv2.imread(str(sheet_file(tmp_path / "run", 7)))
    assert sheet is not None
    assert sheet.shape == (SHOWN * 32, columns * 32, 3)
    blurry = sheets.batches[0].blurry[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(sheet[:32, :32, ::-1] / 255, blurry, atol=1 / 255)
    assert net.training


def test_a_full_disk_leaves_no_half_sheet(tmp_path: Path) -> None:
    samples = make_samples(find(photos(tmp_path)), 32, 0, Recipe())
    sheets = Sheets(build("didanet-tiny"), samples, tmp_path / "run")
    sheets.write(6)
    whole = sheet_file(tmp_path / "run", 6)
    last = whole.stat().st_size - 1  # which a writer may hold back until it closes the file
    with full_after(last), pytest.raises(AllfocusError, match=r"cannot write .*0000007\.png"):
        sheets.write(7)
    assert list((tmp_path / "run" / "samples").iterdir()) == [whole]


def test_nets_that_take_something_else_are_not_shown() -> None:
    assert not can_show(build("jdrl-reblur-tiny"))
    assert not can_show(build("dualpixel-map-tiny"))


def test_a_run_writes_sheets_and_how_long_it_waited(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    data, out = photos(tmp_path / "photos"), tmp_path / "run"
    assert train(data, out, "didanet-tiny", "--recipe", "plain", "--pictures", "2", steps=4) == 0
    assert [p.name for p in sorted((out / "samples").iterdir())] == ["0000002.png", "0000004.png"]
    assert '"of_which_waiting_for_data"' in (out / "report.json").read_text()


def test_sheets_change_no_step(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    data = photos(tmp_path / "photos")
    for name, every in (("with", "1"), ("without", "0")):
        assert (
            train(data, tmp_path / name, "apl-tiny", "--recipe", "plain", "--pictures", every) == 0
        )
    assert rows(tmp_path / "with") == rows(tmp_path / "without")


def test_a_negative_interval_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    data = photos(tmp_path / "photos")
    assert train(data, tmp_path / "run", "didanet-tiny", "--pictures", "-1") == 2
    assert "--pictures: expected a whole number of at least 0" in capsys.readouterr().err
