"""Search: what a model, asked for one word after another, says as a whole."""

from .beam import beam_search, check_options, greedy_search
from .trellis import Hypothesis

__all__ = ["Hypothesis", "beam_search", "check_options", "greedy_search"]
