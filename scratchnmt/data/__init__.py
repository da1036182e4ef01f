"""Text files, vocabularies, batches, and the toy corpus of the demo."""
