"""sfumato: conditional image diffusion as parts that compose.

    import sfumato
    parts = sfumato.load("emoji")
    images = sfumato.text_to_image(parts, ["a red apple"], seeds=[7])   # (1, 3, 64, 64) in [-1, 1]

Everything else is reached by its module. Heavy libraries are imported when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.checkpoints.load import load
    from sfumato.flows.steering import Steering
    from sfumato.flows.text_to_image import text_to_image
    from sfumato.flows.walk import Walk

__all__ = ["Steering", "Walk", "__version__", "load", "text_to_image"]

__version__ = "0.1.0"

_PLACES = {
    "Steering": "sfumato.flows.steering",
    "Walk": "sfumato.flows.walk",
    "load": "sfumato.checkpoints.load",
    "text_to_image": "sfumato.flows.text_to_image",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
