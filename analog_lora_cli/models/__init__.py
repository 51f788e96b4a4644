"""Models of a configuration: pretrained weights, adapters, and layers on tiles."""
