"""`allfocus doctor`: what it finds, and when it is content."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from allfocus import cli
from allfocus.runtime import abilities, doctor
from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.fastest import Measured, Remembered
from allfocus.runtime.gpu import Gpu, Gpus
from allfocus.runtime.probe import Candidate

if TYPE_CHECKING:
    from conftest import Exported


def pretend(monkeypatch: pytest.MonkeyPatch, backends: list[Candidate], problem: str = "") -> None:
    class Loaded(SimpleNamespace):
        def __enter__(self) -> Loaded:
            return self

        def __exit__(self, *_: object) -> None: ...

    def load(model: str) -> Loaded:
        assert model == "didanet-lite"
        if problem:
            raise ArtefactError(problem)
        return Loaded(backend="cpu", precision="fp32")

    monkeypatch.setattr(doctor, "probe", lambda: backends)
    monkeypatch.setattr(doctor, "load", load)


WORKS = Candidate("cpu", True, "", "1.31.0")
NO_TRT = Candidate("tensorrt", False, 'no tensorrt: pip install "allfocus[trt]"', None)


def test_content_where_a_backend_works_and_the_model_loads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, [NO_TRT, WORKS])
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "cpu           1.31.0         works\n" in said
    assert 'tensorrt      not installed  no tensorrt: pip install "allfocus[trt]"\n' in said
    assert said.endswith("didanet-lite loads on cpu in fp32\n")


@pytest.mark.parametrize(
    ("backends", "problem"), [([NO_TRT], ""), ([WORKS], "no file: run `allfocus export`")]
)
def test_not_content(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    backends: list[Candidate],
    problem: str,
) -> None:
    pretend(monkeypatch, backends, problem)
    assert cli.main(["doctor"]) == 1
    assert problem in capsys.readouterr().out


def test_json_has_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, [NO_TRT, WORKS])
    assert cli.main(["doctor", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["healthy"] is True
    assert said["cpus"] >= 1
    assert [b["name"] for b in said["backends"]] == ["tensorrt", "cpu"]
    assert {"allfocus", "numpy"} <= set(said["packages"])
    assert set(said["models"]) >= {"didanet", "didanet-tiny"}
    assert set(said["gpus"]) == {"devices", "cuda", "driver", "reason"}


def test_gpus_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, [WORKS])
    card = Gpu(0, "NVIDIA H200", "sm90", 141 << 30)
    monkeypatch.setattr(doctor, "find_gpus", lambda: Gpus((card,), "13.0", "580.95.05", ""))
    assert cli.main(["doctor"]) == 0
    expected = "GPU 0     NVIDIA H200, sm90, 141 GiB, driver 580.95.05, CUDA 13.0\n"
    assert expected in capsys.readouterr().out


def test_the_cache_and_an_engine_nobody_can_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own_cache: Path
) -> None:
    pretend(monkeypatch, [WORKS])
    (own_cache / "didanet-0a").mkdir()
    (own_cache / "didanet-0a" / "didanet.engine").write_bytes(bytes(2_500_000))
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"cache     {own_cache}, 2.5 MB" in said
    assert "didanet.engine: its manifest cannot be read" in said


def test_an_exported_model_is_found_and_really_loaded(
    tiny: Exported, capsys: pytest.CaptureFixture[str], own_cache: Path
) -> None:
    pytest.importorskip("onnxruntime")
    assert cli.main(["doctor", "--model", "didanet-tiny"]) == 1
    assert (
        "no weights here; `allfocus export --model didanet-tiny --weights FILE`"
        in capsys.readouterr().out
    )
    place = own_cache / "didanet-tiny-0a"
    place.mkdir()
    (place / tiny.float.name).write_bytes(tiny.float.read_bytes())
    assert cli.main(["doctor", "--model", "didanet-tiny"]) == 0
    said = capsys.readouterr().out
    assert f"didanet-tiny      in the cache: {tiny.float.name}" in said
    assert said.splitlines()[-1].startswith("didanet-tiny loads on ")


def test_an_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--model", "didanit"]) == 2
    assert "did you mean 'didanet'" in capsys.readouterr().err


def test_the_plugin_library_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "plugins.so"
    monkeypatch.setenv("ALLFOCUS_PLUGINS", str(library))
    cli.main(["doctor"])
    assert f"plugins   ALLFOCUS_PLUGINS={library}: no such file" in capsys.readouterr().out
    library.touch()
    cli.main(["doctor"])
    assert f"plugins   {library}" in capsys.readouterr().out


def test_what_the_cpu_has_and_lacks_and_what_is_fastest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, [WORKS])
    monkeypatch.setattr(abilities, "describe_cpu", lambda: ("Old", ("avx2", "fma")))
    ways = (Measured("cpu int8", 3.21, ""), Measured("cpu fp32", 5.0, ""))
    found = [
        Remembered("didanet", "128x96", ways, True),
        Remembered("sftnet", "128x96", (Measured("cpu int8", None, "x"),), False),
    ]
    monkeypatch.setattr(doctor, "remembered", lambda: found)
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "abilities AVX2; no VNNI: int8 runs, but slowly, and its sums may overflow" in said
    assert "didanet           cpu int8 3.2 ms, cpu fp32 5.0 ms, for a frame of 128x96\n" in said
    assert "sftnet            cpu int8 failed, for a frame of 128x96 (of before" in said
    assert cli.main(["doctor", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["fastest"][0]["ways"][0] == {"label": "cpu int8", "ms": 3.21, "problem": ""}
