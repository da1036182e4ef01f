"""python -m scratchnmt.kernels NAME ...: equations, array code and CUDA side by side; needs no GPU."""

import sys

from .page import main

sys.exit(main(sys.argv[1:]))
