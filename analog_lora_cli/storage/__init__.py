"""Files and folders of a checkpoint, written so that nothing half-written is taken for complete."""
