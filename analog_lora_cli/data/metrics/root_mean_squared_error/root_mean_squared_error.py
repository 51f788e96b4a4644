"""Root of the mean squared error."""

from analog_lora_cli.tasks.metric_module import metric_module

RootMeanSquaredError = metric_module("root_mean_squared_error", __doc__)
