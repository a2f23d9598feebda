from __future__ import annotations

import numpy as np
import pytest

from allfocus.train.misalign import draw_flow, warp


def test_no_amount_is_no_movement() -> None:
    flow = draw_flow(np.random.default_rng(0), 32, shift=0, zoom=0, flow=0)
    assert np.abs(flow).max() == 0
    image = np.random.default_rng(1).random((32, 32, 3), dtype=np.float32)
    np.testing.assert_allclose(warp(image, flow), image, atol=1e-6)


def test_amounts_are_pixels() -> None:
    flows = [
        draw_flow(np.random.default_rng(seed), 64, shift=3, zoom=0, flow=0) for seed in range(40)
    ]
    lengths = [np.hypot(*flow[0, 0]) for flow in flows]
    assert 2 < max(lengths) <= 3
    local = draw_flow(np.random.default_rng(0), 64, shift=0, zoom=0, flow=1.5)
    assert np.sqrt((local**2).sum(axis=2).mean()) == pytest.approx(1.5, rel=1e-3)
    zoomed = draw_flow(np.random.default_rng(0), 101, shift=0, zoom=0.02, flow=0)
    assert np.abs(zoomed[50, 50]).max() == 0
    assert 0 < np.abs(zoomed).max() <= 0.02 * 50


def test_a_shift_takes_pixels_from_where_it_says() -> None:
    image = np.random.default_rng(1).random((32, 32, 3), dtype=np.float32)
    flow = np.zeros((32, 32, 2), np.float32)
    flow[..., 0] = 2
    np.testing.assert_allclose(warp(image, flow)[:, :-2], image[:, 2:], atol=1e-6)
