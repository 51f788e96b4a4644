"""Surroundings of a command: console, log, ranks, processes, libraries, installation."""
