"""Boards for people: what reservations can be asked."""
