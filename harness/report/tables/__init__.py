"""Tables: rows of text that every format shows alike."""
