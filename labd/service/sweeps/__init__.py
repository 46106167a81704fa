"""Sweeps: their requests, and what becomes of a sweep's text."""
