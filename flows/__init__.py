"""Prefect flows: fetch, call, store."""
