"""F1 of all classes counted together, in percent."""

from analog_lora_cli.tasks.metric_module import metric_module

F1Micro = metric_module("f1_micro", __doc__)
