"""Where timing edges lie on a trace: which ones count, and the map from an edge source's ticks to samples."""
