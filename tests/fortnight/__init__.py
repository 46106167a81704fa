"""A fortnight of nightly sweeps in compressed time, with what goes wrong in one, and its ledger at the end."""
