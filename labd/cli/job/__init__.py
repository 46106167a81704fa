"""`labctl job`: submit jobs, follow them, and ask why one waits."""

from labd.cli.job.command import app, list_, submit

__all__ = ["app", "list_", "submit"]
