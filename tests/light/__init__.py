"""Light boards: a rack of up to hundreds that speak labd's protocols and do nothing else, in one cheap process.

The firmware, the rails and the analyzers of `labd.virtual` are left out: what is tried here is the daemon under many
runs. It meets the boards through drivers of a plug-in, as it would meet any lab's own.
"""
