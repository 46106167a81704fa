"""Drivers of instruments, serial lines and flash probes; `drivers.api` is all that labd imports of them."""
