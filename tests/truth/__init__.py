"""Whether stated uncertainties are true: simulated runs of known energy, scored from their traces alone.

`python -m tests.truth` takes 200 of them and exits 1 if a bound is broken.
"""
