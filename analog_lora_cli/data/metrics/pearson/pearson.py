"""Pearson correlation, times 100."""

from analog_lora_cli.tasks.metric_module import metric_module

Pearson = metric_module("pearson", __doc__)
