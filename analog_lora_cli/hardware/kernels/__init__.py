"""Compiled loops and random numbers for tiles and dropout, and the choice whether to use them."""
