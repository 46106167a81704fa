"""Kills and power cuts: a child process records and seals, dies at any moment, and a judge looks at what it left.

script.py      what a recording holds: every sample, mark and edge follows from a seed and an index
writer.py      the child: records by a script, says on a pipe how far it surely came
nursery.py     one process with everything imported, of which each child is a fork
power_cut.c    notes in the child what the disk was asked for, and ends it at a chosen step
disk.py        what of that a power cut may leave
judge.py       holds a folder against what the child had said
kills.py       kill -9, many times        cuts.py       power cuts, many times
"""
