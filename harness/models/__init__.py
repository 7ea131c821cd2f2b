"""Models: model and checkpoint files, and what they tell without being loaded."""
