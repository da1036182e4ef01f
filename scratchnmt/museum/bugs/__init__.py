"""The bugs, a tuple for each part of the library."""

from ..patch import Bug
from .decoder import ATTENTION, SEARCH
from .ops import CELLS, EMBEDDING, LOSS, SEQUENCES
from .training import TRAINING

SECTIONS: dict[str, tuple[Bug, ...]] = {
    "Cells": CELLS,
    "Sequences": SEQUENCES,
    "Attention and decoder": ATTENTION,
    "Softmax and loss": LOSS,
    "Embedding, dropout, linear": EMBEDDING,
    "Search": SEARCH,
    "Training": TRAINING,
}
BUGS: tuple[Bug, ...] = tuple(bug for bugs in SECTIONS.values() for bug in bugs)
