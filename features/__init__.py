"""Features defined once: the training column and the served value are the same number."""
