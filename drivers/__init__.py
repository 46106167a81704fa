"""Drivers of instruments, serial lines and flash probes. labd imports `drivers.api` and nothing else of this package."""
