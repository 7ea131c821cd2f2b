"""Core: what every part shares, and what knows of no other part."""
