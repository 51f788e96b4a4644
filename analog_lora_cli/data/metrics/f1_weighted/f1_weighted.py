"""Mean of the classes' F1, weighted by how many samples each has, in percent."""

from analog_lora_cli.tasks.metric_module import metric_module

F1Weighted = metric_module("f1_weighted", __doc__)
