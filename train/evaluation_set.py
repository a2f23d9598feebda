"""The built-in evaluation set, written down: which photos, lenses, depths and noise.

Twenty scenes of 360x264 pixels from the photos `astronaut`, `chelsea`, `coffee`, `rocket` and
`motorcycle_left` of scikit-image, on none of which anything here is trained. `evaluation_scenes`
renders them. A change to any line, or to the renderer, makes another set, whose figures do not
compare: raise VERSION with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from allfocus.runtime.spec import Size
from allfocus.train.psf import Aperture

VERSION = 1
SIZE = Size(360, 264)  # of each picture, in pixels
MARGIN = 18  # pixels around it that are rendered too: what blurs in from outside
IN_FOCUS = 0.5  # pixels: what has a smaller blur radius counts as in focus
STEREO = "motorcycle_left"  # the one photo with true depth
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", STEREO)


@dataclass(frozen=True)
class Plane:
    """A window of a photo, with its margin, at a depth.

    `left`, `top`: the window's corner in the photo. The signed blur radius goes from `start` to
    `end` pixels across the window in direction `angle` (degrees; 0 to the right, 90 down). `blob`:
    the seed of the outline of what stands in front; None: the plane covers all.
    """

    photo: str
    left: int
    top: int
    start: float
    end: float
    angle: float = 0.0
    blob: int | None = None


@dataclass(frozen=True)
class Depth:
    """A window of the stereo photo, focused at a disparity of `focus` pixels.

    A thin lens blurs by |disparity - focus| * `scale` pixels of radius: disparity is the inverse of
    depth, and so is the circle of confusion.
    """

    left: int
    top: int
    focus: float
    scale: float


@dataclass(frozen=True)
class Scene:
    """One picture: planes back to front, or one window with true depth, through a lens.

    Noise is Gaussian with the variance `shot` * light + `read`^2, in linear light of 0 to 1, and
    its seed is `seed`.
    """

    name: str
    seed: int
    lens: Aperture
    content: tuple[Plane, ...] | Depth
    shot: float = 1e-4
    read: float = 1e-3

    @property
    def photos(self) -> frozenset[str]:
        """The names of the photos it is made of."""
        if isinstance(self.content, Depth):
            return frozenset((STEREO,))
        return frozenset(plane.photo for plane in self.content)


_DISC = Aperture(shape="disc")
_SOFT = Aperture(shape="soft", softness=0.3)
_SOFTER = Aperture(shape="soft", softness=0.5)
_HEXAGON = Aperture(shape="polygon", blades=6, angle=0.2)
_PENTAGON = Aperture(shape="polygon", blades=5, angle=0.5)
_OCTAGON = Aperture(shape="polygon", blades=8)
_RING = Aperture(shape="ring", softness=0.4)
_GAUSSIAN = Aperture(shape="gaussian")

_A, _C, _K, _R = "astronaut", "chelsea", "coffee", "rocket"
_NOISY = {"shot": 4e-4, "read": 2e-3}

# In an order in which the first few hold something of everything.
SCENES: tuple[Scene, ...] = (
    # One plane that is slanted through focus.
    Scene("astronaut-slant", 1, _DISC, (Plane(_A, 60, 0, -2.0, 5.0),)),
    Scene("motorcycle-far", 2, _SOFT, Depth(0, 100, 20.0, 0.16)),
    Scene(
        "coffee-behind",
        3,
        _HEXAGON,
        (Plane(_K, 100, 60, 3.0, 4.5, 90), Plane(_A, 100, 0, 0.0, 0.0, blob=1)),
    ),
    Scene("rocket-front", 4, _SOFT, (Plane(_R, 160, 60, 0.0, 0.0), Plane(_K, 0, 0, 5, 5, blob=2))),
    Scene("chelsea-mild", 5, _DISC, (Plane(_C, 20, 0, 0.6, 2.4, 30),)),
    Scene("motorcycle-near", 6, _DISC, Depth(200, 180, 48.0, 0.2)),
    Scene("coffee-slant", 7, _SOFTER, (Plane(_K, 180, 20, -1.0, 7.0, 200),), **_NOISY),
    Scene(
        "astronaut-behind",
        8,
        _OCTAGON,
        (Plane(_A, 0, 100, 7.0, 7.0), Plane(_C, 40, 0, 0.0, 0.4, blob=3)),
    ),
    Scene("chelsea-front", 9, _RING, (Plane(_C, 0, 0, 0.0, 0.0), Plane(_R, 200, 90, 3, 3, blob=4))),
    Scene("rocket-slant", 10, _DISC, (Plane(_R, 100, 0, -3.0, 3.0, 70),)),
    Scene("motorcycle-middle", 11, _PENTAGON, Depth(300, 60, 52.0, 0.18)),
    Scene("astronaut-mild", 12, _GAUSSIAN, (Plane(_A, 30, 200, 1.5, 3.0, 120),)),
    Scene(
        "coffee-front",
        13,
        _DISC,
        (Plane(_K, 20, 90, 0.0, 0.0), Plane(_A, 60, 200, 4.0, 6.0, blob=5)),
    ),
    Scene(
        "rocket-behind",
        14,
        _SOFT,
        (Plane(_R, 240, 120, 4.0, 4.0), Plane(_K, 120, 40, 0.0, 1.5, blob=6)),
    ),
    Scene("chelsea-slant", 15, _HEXAGON, (Plane(_C, 50, 0, 4.0, -2.0, 10),), **_NOISY),
    Scene("motorcycle-shallow", 16, _GAUSSIAN, Depth(160, 0, 50.0, 0.1)),
    Scene("coffee-mild", 17, _SOFT, (Plane(_K, 60, 30, 2.5, 2.5),)),
    Scene(
        "astronaut-front",
        18,
        _SOFT,
        (Plane(_A, 90, 30, 0.0, 0.3, 90), Plane(_C, 10, 0, 7.0, 7.0, blob=7)),
    ),
    Scene(
        "chelsea-behind",
        19,
        _DISC,
        (Plane(_C, 30, 0, 10.0, 10.0), Plane(_R, 180, 100, 0.0, 0.0, blob=8)),
    ),
    Scene("rocket-mild", 20, _RING, (Plane(_R, 200, 20, 1.0, 2.0, 300),), **_NOISY),
)
