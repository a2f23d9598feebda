"""The names of all models, known without importing torch.

`train.models` holds an implementation for each name; a test compares the two lists.
"""

from __future__ import annotations

from dataclasses import dataclass

from allfocus.runtime.errors import UnknownModelError, nearest


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue: a model's name and where it comes from."""

    name: str
    summary: str
    paper: str
    multiple: int  # height and width must be multiples of this many pixels


_MA_2021 = "Ma et al., Defocus Image Deblurring Network ..., IEEE TIP 2021"
_YE = "Ye et al., Single-image Defocus Deblurring by Integration of Defocus Map Prediction ..."
_LI_2023 = "Li et al., Learning Single Image Defocus Deblurring with Misaligned ..., AAAI 2023"

MODELS: dict[str, Entry] = {
    e.name: e
    for e in (
        Entry("didanet", "DID-ANet as the paper describes it: 12 blocks of 128", _MA_2021, 4),
        Entry("didanet-released", "DID-ANet as its public code has it: 16 blocks", _MA_2021, 1),
        Entry("didanet-tiny", "DID-ANet's design at test size: 2 blocks of 16", _MA_2021, 4),
        Entry("sftnet", "features modulated by the defocus map: 12 blocks of 128", _YE, 4),
        Entry("sftnet-lite", "sftnet at half the resolution: 12 blocks of 64", _YE, 4),
        Entry("sftnet-tiny", "sftnet's design at test size: 2 blocks of 16", _YE, 4),
        Entry("jdrl-unet", "JDRL's plain U-Net: 5 levels of 64 to 1024, no map", _LI_2023, 16),
        Entry("jdrl-unet-lite", "JDRL's U-Net on 2x2 pixels folded, 32 to 512", _LI_2023, 32),
        Entry("jdrl-unet-tiny", "JDRL's U-Net at test size: 3 levels of 8 to 32", _LI_2023, 4),
    )
}


def entry(name: str) -> Entry:
    """The catalogue's line for `name`; raises UnknownModelError with the nearest names."""
    try:
        return MODELS[name]
    except KeyError:
        raise UnknownModelError(f"unknown model {name!r}: {nearest(name, MODELS)}") from None
