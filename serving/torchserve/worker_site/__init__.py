"""On the path of TorchServe's workers alone: what they do before anything else is imported."""
