"""The analog tile: mapping, converters, the analog MVM, and the layer made of tiles."""
