"""Spearman's rank correlation, times 100."""

from analog_lora_cli.tasks.metric_module import metric_module

Spearman = metric_module("spearman", __doc__)
