"""Search: what a model, asked for one word after another, says as a whole."""

from .beam import Hypothesis, beam_search, check_options, greedy_search
from .constraints import check_constraints
from .model import Ensemble
from .sampling import check_sampling, sample

__all__ = ["Ensemble", "Hypothesis", "beam_search", "check_constraints", "check_options", "check_sampling",
           "greedy_search", "sample"]
