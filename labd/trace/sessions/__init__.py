"""Published benchmark sessions: what other runners wrote of a measurement, read into labd's terms and checked."""
