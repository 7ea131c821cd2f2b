"""Generation and exact scoring with a loaded model."""
