"""The gateway's second language: the Open Inference Protocol v2, beside its own API."""
