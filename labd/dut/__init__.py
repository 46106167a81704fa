"""The board's protocol: a parser without I/O, and an async session on it."""
