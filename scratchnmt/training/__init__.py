"""Training: data and options in, a folder with the best model out."""

from ..errors import OutOfMemoryError
from .nonfinite import NotFiniteError
from .plan import TrainingData, TrainingOptions
from .progress import Progress, duration
from .run import train
from .saving import TrainingResult

__all__ = ["NotFiniteError", "OutOfMemoryError", "Progress", "TrainingData", "TrainingOptions", "TrainingResult",
           "duration", "train"]
