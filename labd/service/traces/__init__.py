"""Traces: what can be asked of them."""
