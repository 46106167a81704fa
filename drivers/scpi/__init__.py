"""What SCPI instruments share: a session on VISA that never waits without a deadline."""
