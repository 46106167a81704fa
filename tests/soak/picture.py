"""What the daemon held over the week, as a picture: people would rather look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tests.light.vitals import Vitals
from tests.soak.leaks import WARM_UP
from tests.soak.week import DAY_S


def draw(looks: Sequence[Vitals], speed: float, out: Path) -> None:
    """Draw memory, files and tasks over the simulated days into a PNG.

    Args:
        looks: What the daemon held, second by second.
        speed: Simulated seconds in one of the host's.
        out: Where the picture goes; its folder is there.
    """
    days = [(look.at_s - looks[0].at_s) * speed / DAY_S for look in looks]
    figure = Figure(figsize=(9.0, 5.5), layout="constrained")
    memory, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    memory.plot(days, [look.rss_anon_mb for look in looks], color="#0072b2")
    memory.axvspan(days[0], WARM_UP * days[-1], color="#e4e7eb")
    middle = WARM_UP / 2 * days[-1]
    memory.text(middle, 0.04, "warm-up", transform=memory.get_xaxis_transform(), ha="center", color="#7b8794")
    memory.set_ylabel("RssAnon / MB")
    counts.plot(days, [look.task_count for look in looks], color="#e69f00", linewidth=0.6, label="tasks")
    counts.plot(days, [look.files for look in looks], color="#009e73", linewidth=0.6, label="open files")
    counts.plot(days, [len(look.threads) for look in looks], color="#d55e00", linewidth=0.6, label="threads")
    counts.set_ylabel("count")
    counts.set_xlabel("simulated day")
    counts.legend(loc="upper right", ncols=3)
    for axes in (memory, counts):
        axes.grid(color="#e4e7eb")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)
