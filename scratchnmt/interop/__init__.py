"""Weights of other programs, in and out: PyTorch's, under the names of CS224N's assignment 4.

Nothing here imports PyTorch; files are read without running what is pickled in them.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .cs224n import (
        gradients_from_pytorch,
        gradients_to_pytorch,
        nmt_from_pytorch,
        nmt_to_pytorch,
        read_cs224n_vocabularies,
        write_cs224n_vocabularies,
    )
    from .torch_file import read_state_dict

__all__ = ["gradients_from_pytorch", "gradients_to_pytorch", "nmt_from_pytorch", "nmt_to_pytorch",
           "read_cs224n_vocabularies", "read_state_dict", "write_cs224n_vocabularies"]
__getattr__, __dir__ = lazy_names(__name__, {
    "cs224n": "gradients_from_pytorch gradients_to_pytorch nmt_from_pytorch nmt_to_pytorch "
              "read_cs224n_vocabularies write_cs224n_vocabularies",
    "torch_file": "read_state_dict",
})
