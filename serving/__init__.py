"""Answering: the REST gateway, the model hosts behind it, and the deployer that feeds them."""
