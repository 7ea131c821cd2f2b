"""Suite: what the YAML says, checked before anything is spent."""
