"""Online features: read in one round trip."""
