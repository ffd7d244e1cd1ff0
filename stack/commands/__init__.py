"""The commands of ``evergreen``, each thin: read the settings, call, show."""
