"""Training: data and options in, a folder with the best model out."""

from ..errors import OutOfMemoryError
from .data import TrainingData
from .nonfinite import NotFiniteError
from .options import TrainingOptions
from .progress import Progress, duration
from .run import train
from .state import TrainingResult

__all__ = ["NotFiniteError", "OutOfMemoryError", "Progress", "TrainingData", "TrainingOptions", "TrainingResult",
           "duration", "train"]
