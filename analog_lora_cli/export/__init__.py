"""Exports for other tools: one module for each format, and their common parts."""
