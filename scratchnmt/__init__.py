"""scratchnmt: neural machine translation with attention, from scratch, every gradient written by hand and verified."""

__version__ = "0.1.0"
