"""The configuration: its sections (`sections`, `schema`), how it is put together (`load`), what keys affect (`scope`)."""
