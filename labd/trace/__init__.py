"""The trace files: written while a run is on, sealed after it, read at any time; and where timing edges lie in them."""
