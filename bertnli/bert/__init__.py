"""What a BERT is, above the backends: sizes, classes, tensors, and the judge of its numbers."""
