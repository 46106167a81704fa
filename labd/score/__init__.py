"""What measurements are worth: energy, throughput, accuracy, with their uncertainty, held against the rules; no I/O."""
