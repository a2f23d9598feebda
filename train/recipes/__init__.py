"""The recipes: one file a paper, one line a net here."""

from __future__ import annotations

from collections.abc import Mapping

from allfocus.runtime.errors import UsageError
from allfocus.train.models.apl import Apl
from allfocus.train.models.apl_detect import AplDetect
from allfocus.train.models.base import Net
from allfocus.train.models.defocusgan import DefocusGan
from allfocus.train.models.didanet import DidANet
from allfocus.train.models.dualpixel_map import DualPixelMap
from allfocus.train.models.jdrl_unet import JdrlUNet
from allfocus.train.models.sftnet import SftNet
from allfocus.train.recipe import Recipe
from allfocus.train.recipes.apl import AplRecipe, DetectRecipe
from allfocus.train.recipes.defocusgan import DefocusGanRecipe
from allfocus.train.recipes.didanet import DidanetRecipe
from allfocus.train.recipes.dualpixel import DualPixelRecipe
from allfocus.train.recipes.jdrl import JdrlRecipe
from allfocus.train.recipes.plain import PlainRecipe
from allfocus.train.recipes.sftnet import SftnetRecipe

_PAPERS: Mapping[type[Net], type[Recipe]] = {
    DidANet: DidanetRecipe,
    SftNet: SftnetRecipe,
    JdrlUNet: JdrlRecipe,
    DefocusGan: DefocusGanRecipe,
    DualPixelMap: DualPixelRecipe,
    Apl: AplRecipe,
    AplDetect: DetectRecipe,
}


def recipe_of(name: str, net: Net, kind: str = "paper") -> type[Recipe]:
    """The recipe for `net`, registered as `name`: its paper's, or the plain one."""
    if kind == "plain":
        return PlainRecipe
    if type(net) not in _PAPERS:
        raise UsageError(f"{name}: no recipe of a paper for it alone; use --recipe plain")
    return _PAPERS[type(net)]
