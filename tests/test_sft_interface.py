"""The C functions of the SFT kernels: what they refuse, and that they keep to their memory."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from emulated import emulated_library
from sft_cases import Case

from allfocus.kernels.binding import open_library

INVALID_VALUE = 1
F32, F16, UNKNOWN = 0, 1, 3
NHWC = 1


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return open_library(emulated_library())


class Call:
    """Arguments of both functions for a small case, by name; `changed` ones are taken instead."""

    FORWARD = "features gamma gamma_full gamma_s beta beta_full out"
    BACKWARD = (
        "grad_out features gamma gamma_full gamma_s beta beta_full "
        "grad_features grad_gamma grad_gamma_s grad_beta workspace"
    )
    SIZES = "slope dtype layout n channels pixels stream"

    def __init__(self, **changed: Any) -> None:
        case = Case()
        features, gamma, gamma_s, beta = case.inputs()
        assert gamma_s is not None
        self.tensors = {
            "features": features,
            "gamma": gamma,
            "gamma_s": gamma_s,
            "beta": beta,
            "out": torch.zeros_like(features),
            "grad_out": case.grad(),
            "grad_features": torch.zeros_like(features),
            "grad_gamma": torch.zeros_like(gamma),
            "grad_gamma_s": torch.zeros_like(gamma_s),
            "grad_beta": torch.zeros_like(beta),
            "workspace": torch.zeros(1 << 14),
        }
        self.values: dict[str, Any] = {
            **{name: tensor.data_ptr() for name, tensor in self.tensors.items()},
            "gamma_full": 0,
            "beta_full": 1,
            "slope": 1.0,
            "dtype": F32,
            "layout": 0,
            "n": 1,
            "channels": 8,
            "pixels": 24,
            "stream": None,
            **changed,
        }

    def forward(self, library: ctypes.CDLL) -> int:
        return int(library.allfocus_sft_modulate(*self._named(self.FORWARD)))

    def backward(self, library: ctypes.CDLL) -> int:
        return int(library.allfocus_sft_modulate_backward(*self._named(self.BACKWARD)))

    def _named(self, names: str) -> list[Any]:
        return [self.values[name] for name in f"{names} {self.SIZES}".split()]


def test_the_small_case_runs(library: ctypes.CDLL) -> None:
    call = Call()
    assert call.forward(library) == 0
    assert call.backward(library) == 0
    assert all(tensor.any() for tensor in call.tensors.values())


@pytest.mark.parametrize("layout", [0, NHWC])
@pytest.mark.parametrize("width", [7, 8])
def test_the_result_may_replace_the_features(width: int, layout: int, library: ctypes.CDLL) -> None:
    case = Case(channels=70, height=9, width=width, beta_full=False)
    tensors = zip(("features", "gamma", "gamma_s", "beta"), case.inputs(), strict=True)
    inputs = {name: tensor for name, tensor in tensors if tensor is not None}
    out = torch.zeros(case.full)
    sizes = {"channels": 70, "pixels": 9 * width, "beta_full": 0, "layout": layout}
    pointers = {name: tensor.data_ptr() for name, tensor in inputs.items()}
    assert Call(**pointers, **sizes, out=out.data_ptr()).forward(library) == 0
    assert Call(**pointers, **sizes, out=pointers["features"]).forward(library) == 0
    assert torch.equal(inputs["features"], out)


@pytest.mark.parametrize(
    "changed",
    [
        *({name: None} for name in ("features", "gamma", "beta", "out")),
        *({"dtype": value} for value in (-1, UNKNOWN)),
        *({"layout": value} for value in (-1, 2)),
        *({name: value} for name in ("n", "channels", "pixels") for value in (0, -8)),
        {"n": 2**40},  # more blocks than a grid has
        {"n": 2**31, "channels": 2**31, "pixels": 2**30},  # their product does not fit 64 bits
        {"features": 4098},  # between two floats
        {"dtype": F16, "gamma": 4097},
    ],
    ids=str,
)
def test_forward_refuses(changed: dict[str, Any], library: ctypes.CDLL) -> None:
    call = Call(**changed)
    assert call.forward(library) == INVALID_VALUE
    assert not call.tensors["out"].any()


@pytest.mark.parametrize(
    "changed",
    [
        *({name: None} for name in ("grad_out", "features", "gamma", "workspace")),
        {"beta": None, "slope": 0.2},
        {"gamma_s": None},  # but its gradient is wanted
        {"dtype": UNKNOWN},
        {"layout": 2},
        *({name: 0} for name in ("n", "channels", "pixels")),
        {"n": 2**40},
        {"grad_beta": 4098},
        {"workspace": 4100},  # packs of sums are stored there
    ],
    ids=str,
)
def test_backward_refuses(changed: dict[str, Any], library: ctypes.CDLL) -> None:
    call = Call(**changed)
    assert call.backward(library) == INVALID_VALUE
    assert not call.tensors["grad_features"].any()


def test_without_an_activation_beta_is_not_read(library: ctypes.CDLL) -> None:
    with_it, without = Call(), Call(beta=None)
    assert with_it.backward(library) == without.backward(library) == 0
    for name in ("grad_features", "grad_gamma", "grad_gamma_s", "grad_beta"):
        assert torch.equal(with_it.tensors[name], without.tensors[name])


def test_without_sums_no_workspace_is_needed(library: ctypes.CDLL) -> None:
    changed = {"workspace": None, "grad_gamma": None, "grad_gamma_s": None}
    assert Call(**changed).backward(library) == 0


def test_without_anything_wanted_nothing_is_written(library: ctypes.CDLL) -> None:
    names = ("grad_features", "grad_gamma", "grad_gamma_s", "grad_beta")
    call = Call(**dict.fromkeys(names))
    assert call.backward(library) == 0
    assert not any(call.tensors[name].any() for name in (*names, "workspace"))


@pytest.mark.parametrize("layout", [0, NHWC])
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("pixels", [1, 7, 8, 200, 4096])
@pytest.mark.parametrize("channels", [1, 3, 8, 70, 128])
def test_the_workspace_is_as_large_as_it_says(
    channels: int, pixels: int, dtype: int, layout: int, library: ctypes.CDLL
) -> None:
    n, bytes_each = 2, 4 if dtype == F32 else 2
    said = library.allfocus_sft_modulate_workspace(n, channels, pixels)
    assert 0 < said <= 4 * (3 * n * channels * pixels + 24)
    space = torch.full((said + 4096,), 77, dtype=torch.uint8)
    tensors = [torch.zeros(n * channels * pixels * bytes_each, dtype=torch.uint8) for _ in range(9)]
    names = "grad_out features gamma gamma_s beta grad_features grad_gamma grad_gamma_s grad_beta"
    pointers = {k: t.data_ptr() for k, t in zip(names.split(), tensors, strict=True)}
    sizes = {"n": n, "channels": channels, "pixels": pixels, "dtype": dtype, "layout": layout}
    call = Call(beta_full=0, workspace=space.data_ptr(), **pointers, **sizes)
    assert call.backward(library) == 0
    assert (space[said:] == 77).all()
    assert (space[:said] != 77).any()
    assert not any(tensor.any() for tensor in tensors)


def test_no_workspace_for_sizes_that_are_refused(library: ctypes.CDLL) -> None:
    assert library.allfocus_sft_modulate_workspace(0, 8, 8) == 0
    assert library.allfocus_sft_modulate_workspace(2**40, 8, 8) == 0
