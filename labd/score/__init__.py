"""What measurements are worth: energy, throughput and accuracy with their uncertainty, held against the rules; no I/O."""
