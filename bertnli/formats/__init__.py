"""Checkpoint files: one module per format. Files that cannot be used raise `CheckpointError`."""
