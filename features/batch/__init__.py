"""Batch views: computed or read from tables, and published by generation."""
