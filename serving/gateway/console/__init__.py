"""The console: one page per use case that shows the whole loop, and lets people act on it."""
