"""Measuring a model: the validation data, chips over time, and the statistics over chips."""
