"""allfocus makes out-of-focus pictures sharp.

    import allfocus

    deblur = allfocus.load("didanet")
    result = deblur(frame)  # uint8 [H, W, 3], BGR as OpenCV gives it
    result.image, result.defocus, result.timings

Importing this package needs NumPy only; engines are imported when a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "AllfocusError",
    "Deblurrer",
    "Model",
    "Result",
    "Spec",
    "__version__",
    "load",
    "load_model",
]

if TYPE_CHECKING:
    from allfocus.runtime.deblurrer import Deblurrer, Result
    from allfocus.runtime.errors import AllfocusError
    from allfocus.runtime.load import load, load_model
    from allfocus.runtime.model import Model
    from allfocus.runtime.spec import Spec

_HOMES = {
    "AllfocusError": "errors",
    "Deblurrer": "deblurrer",
    "Model": "model",
    "Result": "deblurrer",
    "Spec": "spec",
    "load": "load",
    "load_model": "load",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562), which keeps `import allfocus` quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'allfocus' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"allfocus.runtime.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
