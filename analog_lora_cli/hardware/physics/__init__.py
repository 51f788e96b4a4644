"""Devices, conductances and chips: programming noise, drift and its compensation, read noise."""
