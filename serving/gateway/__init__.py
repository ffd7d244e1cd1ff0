"""The one REST door in front of every model."""
