"""The servers of the serving benchmarks: how each is started, what it is sent, and what it answers."""
