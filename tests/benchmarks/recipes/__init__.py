"""Training recipes side by side at equal steps: `python -m tests.benchmarks.recipes PLAN.yaml --output DIR`."""
