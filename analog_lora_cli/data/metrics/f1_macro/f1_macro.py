"""Mean of the classes' F1, in percent."""

from analog_lora_cli.tasks.metric_module import metric_module

F1Macro = metric_module("f1_macro", __doc__)
