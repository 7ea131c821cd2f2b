"""AI labellers: they decide which of two answers is better. One file each."""
