"""Nets on any backend: their arrays by name, losses, scores and predictions."""
