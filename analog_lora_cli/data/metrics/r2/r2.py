"""Share of the references' variance that the predictions explain, in percent."""

from analog_lora_cli.tasks.metric_module import metric_module

R2 = metric_module("r2", __doc__)
