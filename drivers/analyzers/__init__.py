"""Power analyzers: what records a board's current and voltage."""
