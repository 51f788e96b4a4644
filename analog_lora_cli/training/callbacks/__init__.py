"""Callbacks between the Trainer's steps."""
