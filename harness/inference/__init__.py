"""Generation and exact scoring with a loaded model, and a client of chat endpoints."""
