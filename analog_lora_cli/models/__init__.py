"""From a configuration to a model: pretrained weights, adapters, and which layers go onto tiles."""
