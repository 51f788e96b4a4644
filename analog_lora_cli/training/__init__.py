"""Training through transformers' Trainer: arguments, order of samples, callbacks, states to resume from."""
