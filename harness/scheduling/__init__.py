"""Scheduling: a graph of stages at work, and what a person sees of it."""
