"""What every net is, on any backend: its arrays, its loss and score, its predictions."""
