"""TorchServe as a model host: its handler, its archives, its management API."""
