"""Speed and memory against the alternatives, each benchmark one table: `python -m tests.benchmarks.train_step`."""
