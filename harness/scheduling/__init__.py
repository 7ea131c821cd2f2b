"""Scheduling: runs the stages of a plan, and shows the progress."""
