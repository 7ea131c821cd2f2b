"""Core: code that every other part uses, and that imports no other part."""
