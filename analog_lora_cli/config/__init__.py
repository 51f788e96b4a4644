"""The configuration: its sections, how it is put together (`load`), and what its keys affect (`scope`)."""
