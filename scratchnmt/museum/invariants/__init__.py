"""What must hold whatever the numbers are, where a wrong forward pass has a backward pass to match.

No gradient check sees such a bug: the derivative of the wrong function is right.  Each of these functions
takes the package (or a copy of it that has a bug) and raises AssertionError with a sentence on what it saw,
by `raise` and not by `assert`, so that it does also under `python -O` and pytest leaves the sentence alone.
"""

from types import ModuleType

import numpy as np

from ..patch import part
from .layout import (
    a_row_that_is_all_masked_gives_zeros,
    a_sentence_alone_is_what_it_is_in_a_batch,
    backward_twice_is_the_same,
    masked_places_get_no_weight,
    padding_does_not_count_in_the_loss,
    perplexity_does_not_depend_on_the_batches,
    the_order_of_the_sentences_changes_nothing,
    the_sequence_is_a_loop_of_cells,
    the_validation_loss_is_without_dropout_and_smoothing,
)
from .search import (
    a_full_beam_is_exhaustive_search,
    a_score_is_that_of_forced_decoding,
    a_search_does_not_depend_on_its_batch,
    what_is_to_be_predicted_is_not_read,
)
from .training import (
    a_reloaded_adam_goes_on_as_before,
    adam_takes_the_steps_of_the_paper,
    clipping_keeps_the_direction,
    every_target_ends_where_the_sentence_does,
)

__all__ = [
    "a_full_beam_is_exhaustive_search", "a_reloaded_adam_goes_on_as_before",
    "a_row_that_is_all_masked_gives_zeros", "a_score_is_that_of_forced_decoding",
    "a_search_does_not_depend_on_its_batch", "a_sentence_alone_is_what_it_is_in_a_batch",
    "a_wrong_gradient_is_seen_whatever_its_sign", "adam_takes_the_steps_of_the_paper",
    "backward_twice_is_the_same", "clipping_keeps_the_direction", "every_target_ends_where_the_sentence_does",
    "masked_places_get_no_weight", "padding_does_not_count_in_the_loss",
    "perplexity_does_not_depend_on_the_batches", "the_order_of_the_sentences_changes_nothing",
    "the_sequence_is_a_loop_of_cells", "the_validation_loss_is_without_dropout_and_smoothing",
    "what_is_to_be_predicted_is_not_read",
]


def a_wrong_gradient_is_seen_whatever_its_sign(package: ModuleType) -> None:
    """y = x^2 with a gradient that is too large, and one that is too small."""
    forward = lambda x: (x * x, x)
    x, dy = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.5, 1.0])
    for factor in (1.5, 0.5):
        backward = lambda dy, x, factor=factor: dy * factor * 2 * x
        report = part(package, "gradcheck.api").check_gradients(forward, backward, {"x": x}, dys=[dy])
        if report.wrong != ("dx",):
            raise AssertionError(f"a gradient of {factor} times its right value passes the check")
