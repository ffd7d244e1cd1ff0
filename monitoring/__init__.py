"""Watching what was served: joined labels, drift, performance, and the triggers they pull."""
