"""Tables of how a model lies on tiles."""
