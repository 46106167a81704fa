"""The command lines: `labd` for who keeps the rack, `labctl` for who uses it."""
