"""Training above the backends: epochs, metrics, history."""
