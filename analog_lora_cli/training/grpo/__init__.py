"""Reinforcement learning with group-relative rewards (GRPO), by TRL."""
