"""Files and folders: what lies where in a checkpoint, written so that nothing half-written is taken for whole."""
