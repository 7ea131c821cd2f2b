"""The objectives that use TRL's trainers."""
