"""Plots, drawn into files."""
