"""Serial lines to boards."""
