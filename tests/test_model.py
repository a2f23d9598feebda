"""Graphs of any kind by their named inputs: what is right comes out, what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_files import SPEC

from allfocus.runtime.backend import Array, Backend, Options
from allfocus.runtime.errors import ArtefactError, InputError
from allfocus.runtime.model import Model
from allfocus.runtime.signature import Signature
from allfocus.runtime.spec import Graph, Io, Spec

MAX_RADIUS = SPEC.max_radius


class Reblur(Backend):
    """`sharp` comes back as `reblurred`; half the map, and twice the vector."""

    name = "stand-in"
    io: Io = "frame"
    phase = "whole"

    def _load(self) -> tuple[Spec, Graph]:
        graph = Graph(
            io=self.io,
            precision="fp32",
            color="rgb",
            shapes=None,
            phase=self.phase,  # type: ignore[arg-type]
            signature=Signature(
                ("sharp", "blurry", "defocus", "context"), ("reblurred", "defocus", "context")
            ),
        )
        return SPEC, graph

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.seen = inputs
        return {
            "reblurred": inputs["sharp"].copy(),
            "defocus": inputs["defocus"] / 2,
            "context": inputs["context"] * 2,
        }

    def _close(self) -> None:
        pass


class ByFloat(Reblur):
    io: Io = "float"


class First(Reblur):
    phase = "estimate"


def opened(kind: type[Reblur] = Reblur) -> Model:
    return Model(kind(Path("model.onnx"), Options()), reasons=[])


def inputs(dtype: Any = np.uint8) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 13, 22, 3)).astype(np.uint8)
    pictures = frames if dtype == np.uint8 else (frames / 255).astype(dtype)
    return {
        "sharp": pictures[0],
        "blurry": pictures[1],
        "defocus": rng.random((13, 22), np.float32) * np.float32(MAX_RADIUS),
        "context": np.arange(5, dtype=np.float32),
    }


@pytest.mark.parametrize(("kind", "dtype"), [(Reblur, np.uint8), (ByFloat, np.float32)])
def test_each_kind_goes_in_and_comes_out(kind: type[Reblur], dtype: Any) -> None:
    given = inputs(dtype)
    with opened(kind) as model:
        found = model(**given)
    np.testing.assert_allclose(found["reblurred"], given["sharp"], atol=1e-6)
    np.testing.assert_allclose(found["defocus"], given["defocus"] / 2, rtol=1e-6)
    np.testing.assert_array_equal(found["context"], given["context"] * 2)


@pytest.mark.parametrize("channels", [0, 1, 4])
def test_a_picture_comes_out_as_the_first_went_in(channels: int) -> None:
    """The first of the signature, however they are given: grey [H, W] or [H, W, 1], or alpha."""
    given = inputs()
    shape = (13, 22, channels) if channels else (13, 22)
    levels = np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16)
    given["sharp"] = levels
    with opened(ByFloat) as model:
        for order in (sorted(given), sorted(given, reverse=True)):
            found = model(**{name: given[name] for name in order})["reblurred"]
            assert (found.dtype, found.shape) == (levels.dtype, shape)
            np.testing.assert_allclose(found, levels, atol=1)


def test_two_pictures_do_not_share_a_buffer() -> None:
    given = inputs()
    backend = Reblur(Path("model.onnx"), Options())
    Model(backend, color="rgb", reasons=[])(**given)
    for name in ("sharp", "blurry"):
        np.testing.assert_array_equal(backend.seen[name][0, :13, :22], given[name])
    assert backend.seen["sharp"].shape == (1, 16, 24, 3)  # the multiple is 4
    assert backend.seen["defocus"].shape == (1, 16, 24)


def test_the_first_phase_gives_the_map_of_the_padded_picture_and_the_second_takes_it() -> None:
    given = inputs()
    found = opened(First)(**given)
    assert found["defocus"].shape == (16, 24)
    assert opened()(**{**given, "defocus": found["defocus"]})["defocus"].shape == (13, 22)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"context": None}, "takes sharp, blurry, defocus, context, got sharp, blurry, defocus; "
         "the context comes from the model's phase `estimate`"),
        ({"image": np.zeros((13, 22, 3), np.uint8)}, "takes sharp, blurry, .* got .* image"),
        ({"blurry": np.zeros((13, 20, 3), np.uint8)}, "one size, got sharp 22x13, blurry 20x13"),
        ({"blurry": np.zeros((13, 22, 3), np.float64)}, "uint8"),
        ({"defocus": np.zeros((13, 30), np.float32)}, "defocus of 30x13: expected that of"),
        ({"defocus": np.zeros((1, 1), np.float32)}, "defocus of 1x1: expected that of"),
        ({"defocus": np.full((13, 22), np.nan)}, "defocus: expected finite numbers"),
        ({"defocus": np.zeros((13, 22), bool)}, "defocus: expected numbers, got bool"),
        ({"defocus": "x"}, "defocus: expected numbers, got <U1"),
        ({"defocus": np.zeros((2, 13, 22), np.float32)}, "defocus takes float32"),
        ({"context": np.zeros((2, 5), np.float32)}, "context takes float32"),
        ({"sharp": None, "blurry": None}, "takes sharp, blurry, .* got defocus, context"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_named(change: dict[str, Any], text: str) -> None:
    given = {name: value for name, value in {**inputs(), **change}.items() if value is not None}
    with pytest.raises(InputError, match=text):
        opened()(**given)


def test_a_closed_model_says_so() -> None:
    model = opened()
    model.close()
    model.close()
    with pytest.raises(ArtefactError, match="closed"):
        model(**inputs())
