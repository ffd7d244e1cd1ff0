"""The Open Inference Protocol v2: its tensors, and servers that speak it as model hosts."""
