"""Several processes, on one machine or several: forks, by MPI, or both."""

from .workers import Workers as Workers
