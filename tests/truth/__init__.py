"""Whether stated uncertainties are true, and whether what is wrong is refused: runs of known energy, judged in cells.

A second generator: it shares no code with labd's virtual rack and knows of drivers only the words of `drivers.api`.
From a board drawn at random it makes the current as exact steps, ramps and decays (`currents`, `boards`), passes it
through two low-passes and a converter, clips the points, averages them to samples (`analyzers`), draws clocks that
wander (`clocks`) and what the wiring tells of time (`runs`), spoils it on purpose (`faults`), and writes a trace folder
that labd scores. Many runs of one kind are a cell (`cells`), with a verdict (`verdict`); a mutation of the code under
test must turn the verdict (`mutations`).
"""
