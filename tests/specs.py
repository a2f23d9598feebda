"""A made-up model's Spec, for tests that need one and care about little of it."""

from __future__ import annotations

from allfocus.runtime.spec import Spec

SPEC = Spec(
    name="didanet-tiny",
    version=1,
    multiple=4,
    halo=32,
    global_context=False,
    color="rgb",
    max_radius=8.0,
    parameters=15_000,
    macs_per_pixel=12_000.0,
    weights="none",
    weights_sha256="0" * 64,
    license="none needed",
    paper="",
)
