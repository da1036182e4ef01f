"""scratchnmt: attention-based translation from scratch, every gradient written by hand and verified."""

from .models.config import NMTConfig
from .models.nmt import NMT
from .search import Hypothesis
from .translate import Translator

__all__ = ["NMT", "NMTConfig", "Hypothesis", "Translator"]
__version__ = "0.1.0"
