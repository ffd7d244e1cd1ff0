"""API keys: what they are, where they are kept, and how they are issued, rotated and revoked."""
