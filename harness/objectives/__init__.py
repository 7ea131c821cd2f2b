"""Objectives: what is optimised."""
