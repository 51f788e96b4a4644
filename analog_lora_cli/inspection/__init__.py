"""How a model lies on tiles, and what that costs: shapes, conductances, errors, latency."""
