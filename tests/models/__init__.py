"""Tests of the models: families, adapters, placement, tiles."""
