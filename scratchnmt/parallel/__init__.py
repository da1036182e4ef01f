"""Several processes, on one machine or several, by MPI."""
