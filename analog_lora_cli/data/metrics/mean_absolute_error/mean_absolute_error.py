"""Mean absolute error."""

from analog_lora_cli.tasks.metric_module import metric_module

MeanAbsoluteError = metric_module("mean_absolute_error", __doc__)
