"""Matthews correlation of two or more classes, times 100."""

from analog_lora_cli.tasks.metric_module import metric_module

MatthewsCorrelation = metric_module("matthews_correlation", __doc__)
