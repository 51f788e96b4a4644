"""The simulated analog hardware: tiles, how weights lie on them, and chips that are programmed and age."""
