"""Who runs what and when: pure decisions, and the dispatcher that applies them."""
