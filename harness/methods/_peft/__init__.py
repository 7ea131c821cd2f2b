"""Adapters built on PEFT, and repairs of PEFT's models."""
