"""Published sessions: scored as they lie, and taken into a lab."""
