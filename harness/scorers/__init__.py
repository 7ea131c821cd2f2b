"""Scorers: from predictions or a checkpoint to per-example statistics."""
