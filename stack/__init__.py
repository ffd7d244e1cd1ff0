"""The local processes and the ``evergreen`` command line."""
