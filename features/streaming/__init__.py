"""The stream worker: applies events to online features and writes all streams to the offline log."""
