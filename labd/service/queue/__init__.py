"""The queue: its requests, and how a job is done on a bench."""
