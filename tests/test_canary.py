"""A golden frame tells an engine that computes something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_graphs import Floats

import allfocus
from allfocus.runtime import canary, opening
from allfocus.runtime.backend import Options
from allfocus.runtime.canary import Canary
from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.layout import as_frame, layout
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.signature import DEBLUR, Signature
from allfocus.runtime.spec import Graph, Shapes, Size

DATA = Path(allfocus.__file__).parent / "data"


class Wrong(OrtBackend):
    """Computes well, and answers worse by `amount`, in one part of the picture alone."""

    amount = 0.0
    share = 1.0

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        outputs = super()._run(inputs)
        rows = int(self.share * outputs["sharp"].shape[-2])
        outputs["sharp"][..., :rows, :] += self.amount
        return outputs


def opened(floats: Floats, amount: float, share: float = 1.0) -> Wrong:
    backend = Wrong(floats.file("didanet-tiny", "whole"), Options(threads=1))
    backend.amount, backend.share = amount, share
    return backend


@pytest.mark.parametrize("phase", ["whole", "estimate", "restore"])
@pytest.mark.parametrize("name", ["didanet-tiny", "sftnet-tiny", "apl-tiny"])
def test_a_right_answer_passes(floats: Floats, name: str, phase: Any) -> None:
    with OrtBackend(floats.file(name, phase), Options(threads=1)) as backend:
        assert backend.canary
        canary.check(backend)
        assert backend.calls == 1


@pytest.mark.parametrize(
    ("amount", "share"), [(0.05, 1.0), (0.01, 1.0), (0.3, 0.1), (float("nan"), 0.2)]
)
def test_a_wrong_one_is_refused(floats: Floats, amount: float, share: float) -> None:
    with (
        opened(floats, amount, share) as backend,
        pytest.raises(ArtefactError, match=r"whose answer is known, cpu gives 'sharp' off by"),
    ):
        canary.check(backend)
    with opened(floats, 1e-4) as backend:
        canary.check(backend)


@pytest.mark.parametrize("vnni", [True, False])
def test_sums_that_overflow_are_no_matter_of_exports(
    floats: Floats, monkeypatch: pytest.MonkeyPatch, *, vnni: bool
) -> None:
    monkeypatch.setattr(canary, "lacks", lambda _: not vnni)
    monkeypatch.setattr(Wrong, "precision", "int8")
    with opened(floats, 0.3) as backend, pytest.raises(ArtefactError) as caught:
        canary.check(backend)
    assert ("sums of 8 bits overflow: take precision fp32 or auto" in str(caught.value)) != vnni


def test_load_refuses_it_unless_it_is_told_not_to_look(
    floats: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wrong, "amount", 0.2)
    monkeypatch.setattr(opening, "_started", lambda _, artefact, options: Wrong(artefact, options))
    path = floats.file("didanet-tiny", "whole")
    with pytest.raises(ArtefactError, match="without anybody noticing"):
        allfocus.load(path)
    with allfocus.load(path, canary=False) as deblur:
        deblur(np.zeros((8, 8, 3), np.uint8))


def test_weights_with_a_damaged_byte_are_refused(tmp_path: Path) -> None:
    """ONNX Runtime reads what lies beside a graph without looking whether it is the right thing."""
    for path in DATA.glob("didanet-lite*"):
        shutil.copy(path, tmp_path)
    weights = tmp_path / "didanet-lite.safetensors"
    data = bytearray(weights.read_bytes())
    half = len(data) // 2
    data[half : half + 20_000] = (
        np.random.default_rng(0).normal(0, 1, 10_000).astype("<f2").tobytes()
    )
    weights.write_bytes(data)
    with pytest.raises(ArtefactError, match="off by"):
        allfocus.load(tmp_path / "didanet-lite.onnx")


def test_an_artefact_without_an_answer_is_not_asked(floats: Floats) -> None:
    with opened(floats, 1.0) as backend:
        backend.canary = ""
        canary.check(backend)
        assert backend.calls == 0


def test_answers_that_cannot_be_read_are_refused(floats: Floats) -> None:
    for text in ("{", "[]", '{"context": 1}', '{"context": "x", "answers": {}}'):
        with pytest.raises(ArtefactError, match="answers cannot be read"):
            Canary.from_text(text)
    with opened(floats, 0.0) as backend:
        known = json.loads(backend.canary)
        known["answers"]["focus"] = known["answers"]["sharp"]
        backend.canary = json.dumps(known)
        with pytest.raises(ArtefactError, match="gives no 'focus' as it did"):
            canary.check(backend)


def test_answers_survive_their_text() -> None:
    values = np.array([0.25, -1.5, 3.0], np.float32)
    found = Canary.from_text(Canary(7, {"context": values}).to_text())
    assert found.context == 7
    np.testing.assert_array_equal(found.answers["context"], values)


def test_the_frame_is_the_same_in_every_face() -> None:
    size = Size(24, 16)
    signature = Signature(("image", "defocus", "context"), ("sharp",))
    faces = [
        Graph(io=io, precision="fp32", color=color, shapes=None, signature=signature)  # type: ignore[arg-type]
        for io, color in (("float", "rgb"), ("frame", "rgb"), ("frame", "bgr"))
    ]
    drawn = [canary.draw(face, size, 5) for face in faces]
    floats = drawn[0]["image"]
    assert floats.shape == (1, 3, 16, 24)
    assert floats.std() > 0.1
    assert 0 <= floats.min() < floats.max() <= 1
    for frame, order in ((drawn[1], slice(None)), (drawn[2], slice(None, None, -1))):
        image = frame["image"][0, ..., order].transpose(2, 0, 1)
        np.testing.assert_allclose(image / 255, floats[0], atol=1e-6)
        np.testing.assert_array_equal(frame["defocus"].reshape(16, 24), drawn[0]["defocus"][0, 0])
        assert frame["context"].shape == (1, 5, 1, 1)


@pytest.mark.parametrize("io", ["frame16", "nv12", "p010"])
def test_it_is_drawn_and_read_in_the_other_faces(io: Any) -> None:
    graph = Graph(io=io, precision="fp32", color="rgb", shapes=None, signature=DEBLUR)
    (image,) = canary.draw(graph, Size(24, 16), 0).values()
    wanted = layout("image", io)
    assert (image.shape, image.dtype) == (wanted.shape(Size(24, 16)), wanted.dtype)
    values = canary.sampled({"sharp": image}, graph)["sharp"]
    assert values.dtype == np.float32
    assert 0 <= values.min() < 0.3 < 0.6 < values.max() <= 1
    samples = as_frame("image", image, io)
    if io == "frame16":
        assert not np.array_equal(samples, samples.byteswap())
    if io == "p010":
        assert not (samples & 63).any()


def test_its_size_is_the_engines_own() -> None:
    shapes = Shapes(Size(8, 8), Size(40, 24), Size(80, 80))
    graph = Graph(io="float", precision="fp16", color="rgb", shapes=shapes, signature=DEBLUR)
    assert canary.size_for(graph, 8) == Size(40, 24)
    free = Graph(io="float", precision="fp16", color="rgb", shapes=None, signature=DEBLUR)
    assert canary.size_for(free, 32) == Size(96, 64)
