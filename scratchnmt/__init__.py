"""scratchnmt: attention-based translation from scratch, every gradient written by hand and verified."""

from typing import TYPE_CHECKING

from .lazy import lazy_names

if TYPE_CHECKING:
    from .models.config import NMTConfig
    from .models.nmt import NMT
    from .search import Hypothesis
    from .translate import Translator

__all__ = ["NMT", "Hypothesis", "NMTConfig", "Translator"]
__version__ = "0.1.0"
__getattr__, __dir__ = lazy_names(__name__, {
    "models.config": "NMTConfig",
    "models.nmt": "NMT",
    "search": "Hypothesis",
    "translate": "Translator",
})
