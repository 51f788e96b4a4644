"""F1 in percent: of class 1 of two; of more, or of sets of classes (`multilabel`), the mean over the classes; of
tags (`tags`) that of whole entities."""

from analog_lora_cli.tasks.metric_module import metric_module

F1 = metric_module("f1", __doc__)
