"""Mean squared error."""

from analog_lora_cli.tasks.metric_module import metric_module

MeanSquaredError = metric_module("mean_squared_error", __doc__)
