"""What the papers report of their own nets: quoted for the table of models, never measured here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """A paper in few words, and its own figures of the design that carries its name here."""

    paper: str
    reports: str


REPORTED: dict[str, System] = {
    "didanet": System(
        "Ma et al., TIP 2021",
        "31.01 dB on DED; 0.27 s at 600×400 (GTX 1080 Ti), 19.2 M parameters, 570 GFLOP",
    ),
    "didanet-released": System("its public code", "–"),
    "sftnet": System("Ye, Suganuma, Okatani", "26.55 dB on Realistic"),
    "jdrl-unet": System("Li et al., AAAI 2023", "25.82 dB on SDD"),
    "jdrl-reblur": System("Li et al., AAAI 2023", "–"),
    "defocusgan": System("Zhai et al., AAAI 2023", "25.56 dB on DPDD, 4.59 M parameters"),
    "dualpixel-map": System("Zhai et al., AAAI 2023", "23.56 dB on DPDD by deconvolution"),
    "apl": System("Zhao et al., ECCV 2022", "25.71 dB on DP at 160×160"),
    "apl-detect": System(
        "Zhao et al., ECCV 2022", "F_max 0.831 on CUHK, 0.722 on DUT; 0.003 s (RTX 2080 Ti)"
    ),
}


def system_of(name: str) -> str:
    """The key of REPORTED for a model: its own name, or that of the design it is a variant of."""
    return name if name in REPORTED else name.rpartition("-")[0]
