"""What surrounds a command: console, log, processes, libraries, installation."""
