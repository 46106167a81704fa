"""How long a test waits before it says that something hangs.

A deadline in a test stands for "hung", never for "slow": what is waited for takes as long as the machine, and what else
runs on it, make it. How fast labd is, `make bench` tells.
"""

from __future__ import annotations

HUNG_S = 180.0
"""After so long without what a test waits for, it hangs, s: minutes, where a quiet machine takes a second or two."""
