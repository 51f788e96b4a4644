"""Compiled loops and random numbers that the tile is made fast with."""
