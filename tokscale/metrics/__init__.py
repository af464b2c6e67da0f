"""What a tokenizer is measured by; every accumulator streams over batches, in float64, and merges across processes."""
