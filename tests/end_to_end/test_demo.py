"""`labd demo` as a newcomer runs it: exit 0, figures that are true, and traces that can be read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from labd.trace.seal import SealState, verify
from tests.deadline import HUNG_S
from tests.end_to_end.labs import MANIFEST, labd

TRUE_WITHIN = 4.0
"""Standard uncertainties that a figure may lie off the truth: 1 in 16,000 normal ones lies further."""


@pytest.mark.slow
async def test_the_demo_measures_what_is_true_and_keeps_the_traces(tmp_path: Path) -> None:
    ran = await labd("demo", "--json", "--dir", str(tmp_path), "--firmware", str(MANIFEST), deadline_s=3 * HUNG_S)
    assert ran.status == 0, ran.err
    jobs = json.loads(ran.out)["jobs"]
    assert Counter((job["mode"], job["state"]) for job in jobs) == {
        ("energy", "completed"): 4,
        ("performance", "completed"): 4,
        ("accuracy", "completed"): 4,
    }
    for job in jobs:
        match job["mode"]:
            case "energy":
                off = job["energy_j_per_inference"] - job["true_j_per_inference"]
                assert abs(off) < TRUE_WITHIN * job["standard_uncertainty_j_per_inference"], job["board"]
                (trace,) = job["traces"]
                assert verify(Path(trace)).state is SealState.SEALED
            case "performance":
                assert job["inferences_per_s"] > job["inferences_per_s_standard_uncertainty"] > 0
            case "accuracy":
                assert job["top1"] >= 0.95
