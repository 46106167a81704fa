"""One run of one job, step by step."""
