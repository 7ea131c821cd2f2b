"""What is built on PEFT: adapters of our own, and repairs of its models."""
