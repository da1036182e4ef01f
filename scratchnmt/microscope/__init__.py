"""Look into one training step of a model: every number of it, where it came from and where its gradient goes.

    from scratchnmt.microscope import Microscope
    Microscope.load("scratchnmt-demo", [("the white cat sleeps .", None)]).save("page.html")
"""

from .api import Microscope
from .trace import Batch, Trace

__all__ = ["Batch", "Microscope", "Trace"]
