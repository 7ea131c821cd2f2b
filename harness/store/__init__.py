"""Store: the folders of stages on disk, and an index of them."""
