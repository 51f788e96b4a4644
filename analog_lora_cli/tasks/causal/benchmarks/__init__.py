"""Benchmarks of language models: lm-eval's definitions and scoring, with requests that this tool runs."""
