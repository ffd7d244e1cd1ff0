"""Policies tried on the past: the same decisions as in production, through a clock that is moved by hand."""
