"""`allfocus deblur` with a net that changes nothing: what remains is what the command does."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from specs import SPEC

from allfocus import cli
from allfocus.runtime import model_options
from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.signature import Signature
from allfocus.runtime.spec import Graph, Io, Spec

if TYPE_CHECKING:
    from conftest import Exported

HEIGHT, WIDTH = 13, 22
RADIUS = 10.0  # of the pretended model's map at value 1


def spec(max_radius: float) -> Spec:
    return replace(SPEC, name="identity", halo=0, max_radius=max_radius)


class Identity(Backend):
    """Gives back what it gets, and a map that grows from left to right: column / 100."""

    name = "identity"
    io: Io = "float"
    max_radius = RADIUS

    def _load(self) -> tuple[Spec, Graph]:
        outputs = ("sharp", "defocus") if self.max_radius else ("sharp",)
        signature = Signature(("image",), outputs)
        graph = Graph(io=self.io, precision="fp32", color="rgb", shapes=None, signature=signature)
        return spec(self.max_radius), graph

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        image, frame = inputs["image"], self.io == "frame"
        height, width = image.shape[1:3] if frame else image.shape[2:]
        columns = np.broadcast_to(np.arange(width, dtype=np.float32) / 100, (height, width))
        found = {"sharp": image.copy(), "defocus": columns[None]}
        return {name: found[name] for name in self.graph.signature.outputs}

    def _close(self) -> None:
        pass


class Reblur(Identity):
    """Blurs the left half of a picture to black, and the right half not at all."""

    def _load(self) -> tuple[Spec, Graph]:
        signature = Signature(("sharp", "blurry"), ("reblurred", "defocus"))
        found, graph = super()._load()
        return found, replace(graph, signature=signature)

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        again = inputs["sharp"].copy()
        again[..., : again.shape[3] // 2] = 0
        return {"reblurred": again, "defocus": again[:, :1]}


class FrameIdentity(Identity):
    io: Io = "frame"


class Mapless(Identity):
    max_radius = 0.0


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch) -> list[type[Identity]]:
    """The backend that is loaded; a test may put another one in."""
    kinds: list[type[Identity]] = [Identity]

    def load(model: str, *, check: bool, fallback: float | None, **_: Any) -> Deblurrer:
        checker = Reblur(Path(model), Options()) if check or fallback else None
        loaded = kinds[0](Path(model), Options())
        return Deblurrer(loaded, checker=checker, fallback=fallback)

    monkeypatch.setattr(model_options, "load", load)
    return kinds


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(channels: int, dtype: Any = np.uint8) -> NDArray[Any]:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(3).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(name: str, pixels: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(name, **options)
    return Path(name)


def pixels_of(name: str) -> NDArray[Any]:
    with Image.open(name) as image:
        return np.asarray(image)


def deblur(*words: str) -> int:
    return cli.main(["deblur", *words])


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    "pixels", [noise(1), noise(3), noise(4), noise(1, np.uint16)], ids=("L", "RGB", "RGBA", "I;16")
)
def test_an_exact_round_trip(suffix: str, pixels: NDArray[Any]) -> None:
    save(f"in.{suffix}", pixels)
    assert deblur(f"in.{suffix}", "-o", f"out.{suffix}") == 0
    assert np.array_equal(pixels_of(f"out.{suffix}"), pixels)
    assert pixels_of(f"out.{suffix}").dtype == pixels.dtype


@pytest.mark.usefixtures("kind")
def test_grey_with_alpha_and_sixteen_bit_colour() -> None:
    import cv2

    save("la.png", noise(1))
    with Image.open("la.png") as grey:
        Image.merge("LA", (grey, grey.transpose(Image.Transpose.ROTATE_180))).save("la.png")
    assert cv2.imwrite("deep.png", noise(4, np.uint16))
    assert deblur("la.png", "deep.png", "-o", "out") == 0
    assert np.array_equal(pixels_of("out/la.png"), pixels_of("la.png"))
    deep = cv2.imread("out/deep.png", cv2.IMREAD_UNCHANGED)
    assert deep is not None
    assert np.array_equal(deep, noise(4, np.uint16))


@pytest.mark.usefixtures("kind")
def test_a_batch_keeps_names_and_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    save("in/a.jpg", noise(3))
    save("in/b.PNG", noise(3))
    assert deblur("in", "-o", "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        f"{Path('in/a.jpg')} -> {Path('out/a.jpg')}",
        f"{Path('in/b.PNG')} -> {Path('out/b.PNG')}",
    ]
    assert f"{WIDTH}x{HEIGHT}" in lines[0]


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_map_in_numbers_and_in_colours(orientation: int) -> None:
    block = Image.Exif()
    block[274] = orientation
    save("in.jpg", noise(3), exif=block)
    assert deblur("in.jpg", "-o", "out.jpg", "--map", "--map-view") == 0
    values = pixels_of("out-defocus.png")
    assert values.dtype == np.uint16
    expected = np.rint(np.arange(WIDTH) / 100 * RADIUS * 256)
    assert np.array_equal(values, np.broadcast_to(expected, (HEIGHT, WIDTH)))
    assert pixels_of("out-defocus-view.png").shape == (HEIGHT, WIDTH, 3)
    for name in ("out.jpg", "out-defocus.png", "out-defocus-view.png"):
        with Image.open(name) as image:
            assert image.getexif().get(274, 1) == orientation


@pytest.mark.usefixtures("kind")
def test_the_map_of_a_bmp_is_turned_with_it() -> None:
    block = Image.Exif()
    block[274] = 6
    save("in.png", noise(3), exif=block)
    assert deblur("in.png", "-o", "out.bmp", "--map") == 0
    assert pixels_of("out.bmp").shape == (WIDTH, HEIGHT, 3)
    values = pixels_of("out-defocus.png")
    assert values.shape == (WIDTH, HEIGHT)
    assert (np.diff(values[:, 0].astype(int)) > 0).all(), "columns have become rows"
    with Image.open("out-defocus.png") as image:
        assert 274 not in image.getexif()


@pytest.mark.usefixtures("kind")
def test_trust_as_a_picture_and_in_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    save("in.png", np.full((HEIGHT, 4 * WIDTH, 3), 200, np.uint8))
    assert deblur("in.png", "-o", "out.png", "--check", "--trust", "--json") == 0
    trust = pixels_of("out-trust.png")
    assert (trust.dtype, trust.shape) == (np.uint8, (HEIGHT, 4 * WIDTH))
    assert trust[:, :4].max() < 5
    assert trust[:, -4:].min() > 250
    (told,) = json.loads(capsys.readouterr().out)["files"]
    assert told["trust"] == pytest.approx(trust.mean() / 255, abs=0.003)
    assert deblur("in.png", "-o", "no.png", "--trust") == 2
    assert "--trust: outputs are not checked; add --check, or --fallback" in capsys.readouterr().err
    assert deblur("in.png", "-o", "no.png", "--fallback", "2") == 2
    assert "expected a trust above 0, up to 1, got '2'" in capsys.readouterr().err


@pytest.mark.usefixtures("kind")
def test_a_model_without_a_map(
    kind: list[type[Identity]], capsys: pytest.CaptureFixture[str]
) -> None:
    kind[0] = Mapless
    save("in.png", noise(3))
    assert deblur("in.png", "-o", "out", "--map") == 2
    assert "estimates no defocus" in capsys.readouterr().err
    assert not Path("out").exists()
    assert deblur("in.png", "-o", "out") == 0


@pytest.mark.usefixtures("kind")
def test_one_failing_picture_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.png").write_text("no picture")
    save("b.png", noise(3))
    assert deblur("a.png", "b.png", "gone.png", "-o", "out") == 1
    errors = capsys.readouterr().err
    assert "a.png: not a picture" in errors
    assert "gone.png: no such file" in errors
    assert "2 of 3 pictures failed\n" in errors
    assert [p.name for p in Path("out").iterdir()] == ["b.png"]


@pytest.mark.usefixtures("kind")
def test_stop_at_error(capsys: pytest.CaptureFixture[str]) -> None:
    save("b.png", noise(3))
    assert deblur("gone.png", "b.png", "-o", "out", "--stop-at-error") == 1
    assert "1 of 2 pictures failed, 1 not tried" in capsys.readouterr().err
    assert not Path("out").exists()


def test_sixteen_bits_for_a_model_of_eight(
    kind: list[type[Identity]], capsys: pytest.CaptureFixture[str]
) -> None:
    kind[0] = FrameIdentity
    save("deep.png", noise(1, np.uint16))
    save("plain.png", noise(3))
    assert deblur("deep.png", "plain.png", "-o", "out") == 1
    assert "allfocus: deep.png: this model was exported for uint8" in capsys.readouterr().err
    assert [p.name for p in Path("out").iterdir()] == ["plain.png"]


@pytest.mark.usefixtures("kind")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    save("a.png", noise(4, np.uint8))
    assert deblur("a.png", "gone.png", "-o", "out", "--map", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["backend"]) == ("identity", "identity")
    (done,), (failed,) = said["files"], said["failed"]
    assert (done["input"], done["width"], done["height"]) == ("a.png", WIDTH, HEIGHT)
    assert Path(done["output"]).is_file()
    assert Path(done["defocus"]).is_file()
    assert set(done["milliseconds"]) == {"pre", "infer", "post"}
    assert (failed["input"], failed["kind"]) == ("gone.png", "InputError")


@pytest.mark.usefixtures("kind")
def test_what_is_lost_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    save("a.png", noise(4))
    assert deblur("a.png", "-o", "a.jpg") == 0
    assert "a.png: its transparency was left out" in capsys.readouterr().err


@pytest.mark.usefixtures("kind")
def test_max_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    save("a.png", noise(3))
    assert deblur("a.png", "-o", "out", "--max-pixels", "200") == 1
    assert "286 pixels, the limit is 200" in capsys.readouterr().err
    assert deblur("a.png", "-o", "out", "--max-pixels", "1k") == 0


@pytest.mark.parametrize(
    "words",
    [("--quality", "0"), ("--quality", "101"), ("--max-pixels", "2G"), ("--max-pixels", "M")],
)
def test_options_out_of_range(words: tuple[str, ...]) -> None:
    assert deblur("a.png", "-o", "out", *words) == 2


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("command", ["deblur", "batch"])
def test_a_quality_that_no_output_has_is_refused(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save("a.png", noise(3))
    save("b.tif", noise(3))
    words = ("a.png", "b.tif", "-o", "out", "--quality", "90")
    assert cli.main([command, *words]) == 2
    assert "--quality is that of JPEG and WebP, and outputs are PNG and TIFF" in (
        capsys.readouterr().err
    )
    assert not Path("out").exists()
    save("c.jpg", noise(3))
    assert deblur("c.jpg", *words) == 0  # some have one


@pytest.mark.usefixtures("kind")
def test_an_input_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    save("a.png", noise(3))
    assert deblur("a.png", "-o", ".") == 2
    told = capsys.readouterr().err
    assert "is an input" in told
    assert deblur("a.png", "-o", ".", *re.findall(r"--suffix\S*[^\s,]", told)) == 0
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["a-sharp.png", "a.png"]
    assert deblur("a.png", "-o", ".", "--overwrite") == 0


def test_an_unknown_model_is_offered_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    save("a.png", noise(3))
    assert deblur("a.png", "-o", "out", "--model", "didanett") == 2
    assert "did you mean 'didanet'" in capsys.readouterr().err


def test_ctrl_c_leaves_nothing_half_written(
    kind: list[type[Identity]], capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Identity):
        def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
            if self.calls == 2:
                raise KeyboardInterrupt
            return super()._run(inputs)

    kind[0] = Interrupted
    for name in ("a.png", "b.png", "c.png"):
        save(name, noise(3))
    assert deblur("a.png", "b.png", "c.png", "-o", "out") == 130
    assert "interrupted" in capsys.readouterr().err
    assert [p.name for p in Path("out").iterdir()] == ["a.png"]


@pytest.mark.usefixtures("kind")
def test_the_bar_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save("a.png", noise(3))
    save("b.png", noise(3))
    assert deblur("a.png", "b.png", "-o", "out") == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert deblur("a.png", "b.png", "-o", "out", "--overwrite") == 0
    assert "picture" in capsys.readouterr().err


def test_with_a_real_net(tiny: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    save("photo.jpg", noise(3))
    words = ("photo.jpg", "-o", "out", "--map", "--model", str(tiny.float), "--json")
    assert deblur(*words, "--backend", "cpu", "--threads", "1") == 0
    assert json.loads(capsys.readouterr().out)["backend"] == "cpu"
    assert pixels_of("out/photo.jpg").shape == (HEIGHT, WIDTH, 3)
    assert pixels_of("out/photo-defocus.png").shape == (HEIGHT, WIDTH)
