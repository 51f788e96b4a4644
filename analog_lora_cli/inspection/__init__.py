"""Placement of a model on tiles and its cost: shapes, conductances, errors, latency."""
