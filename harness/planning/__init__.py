"""Planning: from variants to a graph of stages."""
