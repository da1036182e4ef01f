"""What is written to the disk and read back: whole files, checksums, tensors, the folder of a run."""
