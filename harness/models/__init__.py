"""Models: the files of models and checkpoints, described without loading them."""
