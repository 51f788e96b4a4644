"""Reading data files and the hub's data sets; features and batches."""
