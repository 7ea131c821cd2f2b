"""The plots of a report, one kind a file; `figures` has them all."""
