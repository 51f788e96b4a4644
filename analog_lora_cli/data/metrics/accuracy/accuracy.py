"""Share of predictions that are the reference, in percent."""

from analog_lora_cli.tasks.metric_module import metric_module

Accuracy = metric_module("accuracy", __doc__)
