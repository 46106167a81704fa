"""What becomes of traces after their run: kept in a store, moved to an archive, let go by rule."""
