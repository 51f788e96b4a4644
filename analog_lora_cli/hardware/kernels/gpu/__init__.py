"""Tiles and chips on a GPU, in Triton: one kernel where torch runs dozens, and noise that is drawn but never stored.

Without a GPU they run in Triton's interpreter: TRITON_INTERPRET=1, set before the process first imports triton. Nothing
here has been measured on a card: block sizes are a beginning, and `hardware.kernels: auto` does not choose them.

Tensors are contiguous; a suffix gives a tensor's axes: T tokens, I inputs (of all rows of tiles), O outputs, R rows of
tiles, B bytes of 8 outputs, and E the R + 1 edges of the rows of tiles: the first input of each, and their number.
"""
