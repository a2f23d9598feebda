"""The names of all models, known without importing torch, and of the baselines they must beat.

`train.models` holds an implementation for each model, `benchmarks.deconvolution` for each
baseline; tests compare the lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from allfocus.runtime.errors import UnknownModelError, UsageError, nearest
from allfocus.runtime.signature import DEBLUR, Phase, Signature

Signatures = Mapping[Phase, Signature]

_WHOLE: Signatures = {"whole": Signature(("image",), ("sharp",))}
_WITH_MAP: Signatures = {
    "whole": DEBLUR,
    "estimate": Signature(("image",), ("defocus",)),
    "restore": Signature(("image", "defocus"), ("sharp",)),
}
_POOLED: Signatures = {
    "whole": DEBLUR,
    "estimate": Signature(("image",), ("defocus", "context")),
    "restore": Signature(("image", "defocus", "context"), ("sharp",)),
}
_DETECT: Signatures = {"whole": Signature(("image",), ("focus",))}
_POOLED_FOCUS: Signatures = {
    "whole": Signature(("image",), ("sharp", "focus")),
    "estimate": Signature(("image",), ("focus", "context")),
    "restore": Signature(("image", "focus", "context"), ("sharp",)),
}
_REBLUR: Signatures = {"whole": Signature(("sharp", "blurry"), ("reblurred", "defocus"))}
_MEANS: Signatures = {
    "whole": Signature(("image",), ("sharp",)),
    "estimate": Signature(("image",), ("context",)),
    "restore": Signature(("image", "context"), ("sharp",)),
}
_VIEWS: Signatures = {
    "whole": Signature(("left", "right"), ("defocus",)),
    "estimate": Signature(("left", "right"), ("context",)),
    "restore": Signature(("left", "right", "context"), ("defocus",)),
}


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue: a model's name, where it comes from, and its phases."""

    name: str
    summary: str
    paper: str
    multiple: int  # height and width must be multiples of this many pixels
    signatures: Signatures
    fp16_db: float  # PSNR in dB that a float16 export must reach against float32
    untouched: float = 0.0  # pixels: up to this blur radius the output is the input, by design

    def signature(self, phase: str) -> Signature:
        """What goes into `phase` and comes out; raises UsageError where there is no such phase."""
        for known, signature in self.signatures.items():
            if known == phase:
                return signature
        raise UsageError(f"{self.name} has no phase {phase!r}: {nearest(phase, self.signatures)}")


@dataclass(frozen=True)
class Baseline:
    """A classical way to deblur under an estimated defocus map: no weights, no graph."""

    name: str
    summary: str
    paper: str


def _system(
    paper: str,
    signatures: Signatures,
    *rows: tuple[str, int, str],
    fp16_db: float = 50.0,
    untouched: Mapping[str, float] | None = None,
) -> list[Entry]:
    """A paper's models, each as its name, multiple and summary."""
    radii = untouched or {}
    return [
        Entry(name, summary, paper, multiple, signatures, fp16_db, radii.get(name, 0.0))
        for name, multiple, summary in rows
    ]


_DIDANET = _system(
    "Ma et al., Defocus Image Deblurring Network ..., IEEE TIP 2021",
    _WITH_MAP,
    ("didanet", 4, "DID-ANet as the paper describes it: 12 blocks of 128"),
    ("didanet-released", 1, "DID-ANet as its public code has it: 16 blocks"),
    ("didanet-lite", 16, "didanet at half the resolution: 12 blocks of 64"),
    ("didanet-nano", 16, "didanet-lite with 8 blocks of 32, for small boards"),
    ("didanet-tiny", 4, "DID-ANet's design at test size: 2 blocks of 16"),
    fp16_db=60.0,
    untouched={"didanet-lite": 1.0, "didanet-nano": 1.0},
)
_SFTNET = _system(
    "Ye et al., Single-image Defocus Deblurring by Integration of Defocus Map Prediction ...",
    _POOLED,
    ("sftnet", 4, "features modulated by the defocus map: 12 blocks of 128"),
    ("sftnet-lite", 16, "sftnet at half the resolution: 12 blocks of 64"),
    ("sftnet-tiny", 4, "sftnet's design at test size: 2 blocks of 16"),
    untouched={"sftnet-lite": 0.5},
)
_JDRL_PAPER = "Li et al., Learning Single Image Defocus Deblurring with Misaligned ..., AAAI 2023"
_JDRL = _system(
    _JDRL_PAPER,
    _WHOLE,
    ("jdrl-unet", 16, "JDRL's plain U-Net: 5 levels of 64 to 1024, no map"),
    ("jdrl-unet-lite", 32, "JDRL's U-Net on 2x2 pixels folded, 32 to 512"),
    ("jdrl-unet-tiny", 4, "JDRL's U-Net at test size: 3 levels of 8 to 32"),
)
_APL_PAPER = "Zhao et al., United Defocus Blur Detection and Deblurring ..., ECCV 2022"
_APL_DETECT = _system(
    _APL_PAPER,
    _DETECT,
    ("apl-detect", 8, "APL's detection net: what is in focus, by VGG16 blocks"),
    ("apl-detect-lite", 16, "apl-detect on 2x2 pixels folded, half the features"),
    ("apl-detect-tiny", 4, "APL's detection net at test size: 3 levels of 4 to 8"),
)
_APL = _system(
    _APL_PAPER,
    _POOLED_FOCUS,
    ("apl", 8, "APL: what is in focus guides the deblurring of the rest"),
    ("apl-lite", 16, "apl on 4x4 pixels folded: 3 blocks of 96"),
    ("apl-tiny", 4, "apl's design at test size: 1 block of 8"),
)

_JDRL_REBLUR = _system(
    _JDRL_PAPER,
    _REBLUR,
    ("jdrl-reblur", 1, "JDRL's reblurring net: isotropic kernels of 8 sizes a pixel"),
    ("jdrl-reblur-tiny", 1, "JDRL's reblurring net at test size: 4 sizes, 1 block of 8"),
)

_BLUR_KERNELS = "Zhai et al., Learnable Blur Kernel for Single-Image ..., AAAI 2023"
_DEFOCUSGAN = _system(
    _BLUR_KERNELS,
    _MEANS,
    ("defocusgan", 16, "three scales of four branches, guided by a map in training only"),
    ("defocusgan-lite", 32, "defocusgan on 2x2 pixels folded, about half the features"),
    ("defocusgan-tiny", 16, "defocusgan's design at test size: 8 features"),
)
_DUALPIXEL = _system(
    _BLUR_KERNELS,
    _VIEWS,
    ("dualpixel-map", 16, "defocus map from the two views of a dual-pixel sensor"),
    ("dualpixel-map-lite", 32, "dualpixel-map on 2x2 pixels folded, 16 to 32 features"),
    ("dualpixel-map-tiny", 16, "dualpixel-map's design at test size: 8 features"),
)

_DEBLURRERS = (*_DIDANET, *_SFTNET, *_JDRL, *_DEFOCUSGAN, *_APL)
_OTHERS = (*_JDRL_REBLUR, *_DUALPIXEL, *_APL_DETECT)

MODELS: dict[str, Entry] = {e.name: e for e in (*_DEBLURRERS, *_OTHERS)}

_BASELINES = (
    Baseline("wiener", "Wiener's filter for a disc of each radius", "Wiener, Time Series, 1949"),
    Baseline(
        "richardson-lucy",
        "Richardson-Lucy for a disc of each radius",
        "Fish et al., Blind Deconvolution by Means of the Richardson-Lucy Algorithm, JOSA A 1995",
    ),
)
BASELINES: dict[str, Baseline] = {b.name: b for b in _BASELINES}


def entry(name: str) -> Entry:
    """The catalogue's line for `name`; raises UnknownModelError with the nearest names.

    Raises UsageError for a baseline, which has no weights to load, export, train or count.
    """
    if name in BASELINES:
        raise UsageError(
            f"{name!r} is a classical baseline, not a net: there is nothing of it to load, export, "
            f"train or count; `allfocus bench latency --classical {name}` times it beside a model, "
            f'and allfocus.benchmarks.baselines.open_baseline("{name}") runs it'
        )
    try:
        return MODELS[name]
    except KeyError:
        raise UnknownModelError(f"unknown model {name!r}: {nearest(name, MODELS)}") from None
