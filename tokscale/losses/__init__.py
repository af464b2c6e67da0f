"""What the tokenizer's output is held to in training; the bottlenecks' own losses stand with the bottlenecks."""
