"""Checkpoint files: one module per format, and the tensor names between them."""
