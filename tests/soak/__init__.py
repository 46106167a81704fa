"""A week of a busy lab in compressed time: 100,000 runs, and nothing lost, left or leaked."""
