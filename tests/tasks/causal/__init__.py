"""Tests of the tasks of causal language models."""
