"""What is built on TRL's trainers."""
