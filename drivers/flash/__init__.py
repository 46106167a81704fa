"""Flashers: what writes an image into a board and holds the board's memory against it."""
