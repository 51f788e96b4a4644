"""The simulated analog hardware, in three floors: kernels, tiles, and the physics of chips that age."""
