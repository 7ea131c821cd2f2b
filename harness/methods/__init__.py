"""Methods: they decide which weights train."""
