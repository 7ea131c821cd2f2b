"""Store: finished stages on disk, and an index over them."""
