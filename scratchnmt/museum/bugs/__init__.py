"""The bugs, a file for each part of the library."""

from ..patch import Bug
from . import attention, cells, embedding, loss, search, sequences, training

SECTIONS: dict[str, tuple[Bug, ...]] = {
    "Cells": cells.BUGS,
    "Sequences": sequences.BUGS,
    "Attention and decoder": attention.BUGS,
    "Softmax and loss": loss.BUGS,
    "Embedding, dropout, linear": embedding.BUGS,
    "Search": search.BUGS,
    "Training": training.BUGS,
}
BUGS: tuple[Bug, ...] = tuple(bug for bugs in SECTIONS.values() for bug in bugs)
