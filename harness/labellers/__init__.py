"""AI labellers: who says which of two answers is the better. One file each."""
