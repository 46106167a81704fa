"""Traces in the formats of other tools: `selection` says what, `writing` puts it into a file; a module a format."""
