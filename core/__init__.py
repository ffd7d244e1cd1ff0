"""What every part shares: the use-case contract, settings, clock, errors and ledger."""
