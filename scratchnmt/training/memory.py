"""What to say when a training runs out of memory: how much was asked for, for what, and what to lower."""

from __future__ import annotations

import traceback
from pathlib import Path

from ..data.batches import Batch
from ..errors import InputError
from .options import TrainingOptions

_PACKAGE = Path(__file__).parents[1]


class OutOfMemoryError(InputError):
    """No memory was left; the last good state is still in the run's folder."""


def out_of_memory(error: MemoryError, options: TrainingOptions, batch: Batch | None,
                  kept: str) -> OutOfMemoryError:
    """The sentence for a MemoryError of NumPy or CuPy, whose own words tell how much was asked for.

    batch: the one at hand, None before the first; kept: where the run stands and what of it is saved.
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(_PACKAGE)]
    asked = f"{str(error).rstrip('.') or 'no size is told'}, in {frames[-1].name}: {frames[-1].line}"
    if any(frame.name == "_validate" for frame in frames):
        lower = f"valid_batch_size, now {options.valid_batch_size}"
    elif batch is not None:
        lower = (f"batch_size, now {options.batch_size}, or max_length: the batch has {len(batch.src_lengths)} "
                 f"sentences of up to {batch.src_lengths.max()} and {batch.tgt_lengths.max()} tokens")
    else:
        lower = "hidden_size, embed_size or the vocabularies' sizes: weights, gradients and optimizer do not fit"
    return OutOfMemoryError(f"out of memory ({asked}); lower {lower}; {kept}")
