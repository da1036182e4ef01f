"""Training: data and options in, a folder with the best model out."""

from .data import TrainingData
from .loop import NotFiniteError, train
from .memory import OutOfMemoryError
from .options import TrainingOptions
from .progress import Progress, duration
from .state import TrainingResult

__all__ = ["NotFiniteError", "OutOfMemoryError", "Progress", "TrainingData", "TrainingOptions", "TrainingResult",
           "duration", "train"]
