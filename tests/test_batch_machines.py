"""A batch on two of Ray's nodes, of which one is lost: both are processes of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from killed import Renames
from photos import OPTIONS, photos

COUNT = 24

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="counts writes with inotify"),
]


def test_a_machine_that_is_lost_costs_no_picture(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself takes half a minute, or a whole one, to be sure that the node is gone."""
    utils = pytest.importorskip("ray.cluster_utils", reason="needs Ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would write a token to the user's home
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = utils.Cluster(initialize_head=True, head_node_args=node)
    try:
        second = cluster.add_node(**node)
        out = tmp_path / "out"
        out.mkdir()
        folder = photos(tmp_path / "in", COUNT, side=96)
        with Renames(out) as renames:
            command = [sys.executable, "-m", "allfocus", "batch", str(folder), "-o", str(out)]
            options = [*OPTIONS, "--engine", "ray", "--address", cluster.address, "--json"]
            told = tmp_path_factory.mktemp("told") / "told.json"
            with (
                told.open("w") as stdout,
                subprocess.Popen([*command, *options], stdout=stdout) as process,
            ):
                done: list[str] = []
                until = time.monotonic() + 120
                while len(done) < 4 and time.monotonic() < until:
                    done += renames.names()
                    time.sleep(0.05)
                assert 4 <= len(done) < COUNT - 4
                cluster.remove_node(second, allow_graceful=False)
                assert process.wait(timeout=300) == 0
            assert sorted(done + renames.names()) == sorted(f"{n}.png" for n in range(COUNT))
        assert len(json.loads(told.read_text())["files"]) == COUNT
        assert all(cv2.imread(str(path)) is not None for path in out.iterdir())
    finally:
        cluster.shutdown()
