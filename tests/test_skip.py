"""What `skip` may be, and what it means for a model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from engine_files import SPEC
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.catalogue import MODELS, entry
from allfocus.runtime.errors import UsageError
from allfocus.runtime.signature import DEBLUR, Signature
from allfocus.runtime.skip import FADE, FOCUS, RADIUS, SPECK, Skip, argument, check, skip_for

WITH_FOCUS = Signature(("image",), ("sharp", "focus"))
WITHOUT = Signature(("image",), ("sharp",))


def spec(name: str, max_radius: float = 8.0):  # type: ignore[no-untyped-def]
    return replace(SPEC, name=name, max_radius=max_radius)


def test_what_leaves_the_input_alone_by_design_is_skipped_exactly_there() -> None:
    assert entry("didanet-lite").untouched == 1.0
    assert skip_for("auto", spec("didanet-lite"), DEBLUR) == Skip(1 / 8, 0, sure=1.5 / 8)
    assert skip_for(0.5, spec("didanet-lite"), DEBLUR) == Skip(0.5 / 8, 0)
    assert skip_for(1.25, spec("didanet-lite"), DEBLUR) == Skip(1.25 / 8, FADE)


@pytest.mark.parametrize("name", ["didanet", "a net of my own"])
def test_other_nets_fade_out(name: str) -> None:
    assert skip_for("auto", spec(name, 25.0), DEBLUR) == Skip(
        RADIUS / 25, FADE, sure=(RADIUS + SPECK) / 25
    )


def test_a_focus_map_is_read_the_other_way() -> None:
    skip = skip_for("auto", spec("apl-lite", 0.0), WITH_FOCUS)
    assert skip == Skip(FOCUS, FADE, of_focus=True)
    assert skip.active(np.array([0.0, FOCUS, 1.0])).tolist() == [True, False, False]
    assert Skip(0.5, 0).active(np.array([0.0, 0.5, 1.0])).tolist() == [False, False, True]


def test_patches_that_hardly_exceed_the_radius_are_left_out_as_wholes() -> None:
    plane = np.zeros((6, 8), np.float32)
    plane[0, 0:3] = 0.3, 0.2, 0.6  # holds a sure pixel
    plane[1, 3] = 0.2  # joined by a corner
    plane[4:, 5:] = 0.4
    found = Skip(0.1, 0, sure=0.5).active(plane)
    assert np.argwhere(found).tolist() == [[0, 0], [0, 1], [0, 2], [1, 3]]
    assert Skip(0.1, 0).active(plane).sum() == 10
    assert not Skip(0.1, 0, sure=0.5).active(np.zeros_like(plane)).any()
    assert Skip(0.1, 0, sure=0.5).active(np.ones_like(plane)).all()


def test_off_and_no_map_skip_nothing() -> None:
    assert skip_for("off", spec("didanet-lite"), DEBLUR) is None
    assert skip_for("auto", spec("jdrl-unet-lite", 0.0), WITHOUT) is None
    with pytest.raises(UsageError, match="jdrl-unet-lite makes no map; leave it at 'auto'"):
        skip_for(1.0, spec("jdrl-unet-lite", 0.0), WITHOUT)
    with pytest.raises(UsageError, match="not a radius"):
        skip_for(1.0, spec("apl-lite", 0.0), WITH_FOCUS)


_NO_RADII = [
    -1,
    -1.0,
    np.float32(-1),
    float("nan"),
    np.float64("nan"),
    float("inf"),
    pytest.param(10**400, id="huge"),
]


@pytest.mark.parametrize("choice", ["on", "", *_NO_RADII, True, np.bool_(True), None, 1j, [1.0]])
def test_what_is_no_choice_is_refused(choice: object) -> None:
    with pytest.raises(UsageError, match="expected auto, off or a blur radius in pixels"):
        check(choice)  # type: ignore[arg-type]


_KINDS = (int, float, Fraction, np.int64, np.uint8, np.float16, np.float32, np.float64)


@given(st.integers(0, 100), st.sampled_from(_KINDS))
def test_a_radius_is_a_real_number_of_any_kind(number: int, kind: Callable[[int], float]) -> None:
    found = check(kind(number))
    assert type(found) is float
    assert found == number
    name = spec("didanet-lite")
    assert skip_for(kind(number), name, DEBLUR) == skip_for(float(number), name, DEBLUR)


def test_a_command_lines_word() -> None:
    assert (argument("auto"), argument("off"), argument("0.5")) == ("auto", "off", 0.5)
    for text in ("on", "-1", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected auto, off or a radius"):
            argument(text)


def test_what_the_catalogue_promises_is_what_the_nets_do() -> None:
    from allfocus.train.models import didanet, sftnet

    configs = {**didanet.CONFIGS, **sftnet.CONFIGS}
    for name in MODELS:
        config = configs.get(name)
        assert entry(name).untouched == (config.untouched if config else 0.0), name
