"""What the lab shows over HTTP."""
