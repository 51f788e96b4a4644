"""The configuration: what may stand in it (`schema`), and how it is put together (`load`)."""
