"""Tasks of causal language models: instructions with answers, running text."""
