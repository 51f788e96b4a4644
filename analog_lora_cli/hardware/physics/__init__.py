"""Devices, conductances and chips: programming noise, drift, read noise."""
