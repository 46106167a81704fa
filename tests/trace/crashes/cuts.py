"""Power cuts: one recording is cut at many moments, each time with another damage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random

from labd.trace.journal import JOURNAL
from labd.trace.layout import HOT
from tests.trace.crashes.disk import Disk
from tests.trace.crashes.judge import Account, Verdict, judge
from tests.trace.crashes.kills import account_of
from tests.trace.crashes.nursery import Nursery, NurseryError
from tests.trace.crashes.script import Script, Style
from tests.trace.crashes.writer import Announcement, Job, Kind

CUTS_A_RECORDING = 20
STYLE = Style(rows_most=1_200_000, sync_s=(0.05, 0.1, 0.3), pauses_s=(0.3, 1.5))
SLOW_US = (0, 0, 5_000, 40_000)
"""How much slower than this machine's the disk is, µs a sync."""
SLACK_S = 0.1
"""What a loaded machine may take to let a thread run, s."""
STAGES = {Kind.CREATING: 1, Kind.CREATED: 12, Kind.CLOSING: 3, Kind.SEALING: 4}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one cut.

    Args:
        stage: What the child had been at.
        rows_sure: Samples that were durable.
        rows_taken: Samples that the writer had taken.
        lost_s: Age of the oldest sample that was lost, s; 0 if none was.
        bound_s: The greatest age that is promised, s: both intervals, the calls and the syncs under way.
        moods: What became of each file.
        verdict: What the judge found.
        broken: What is wrong.
    """

    stage: str
    rows_sure: int
    rows_taken: int
    lost_s: float
    bound_s: float
    moods: str
    verdict: Verdict
    broken: tuple[str, ...]


def cuts(
    nursery: Nursery, scratch: Path, count: int, seed: int, *, style: Style = STYLE, deaf: Sequence[str] = ()
) -> Iterator[Outcome]:
    """Cut the power `count` times.

    Args:
        nursery: Raises the children that record.
        scratch: Folder for their traces; it is empty afterwards.
        count: How many cuts; a recording serves for 20.
        seed: Of everything, but for the machine's own pace.
        style: What they record.
        deaf: Files whose syncs the disk does not do; to try the judge.
    """
    for number in range(-(-count // CUTS_A_RECORDING)):
        name = f"{seed}-{number}"
        place = scratch / f"recording{number}"
        recording = _Recording.made(nursery, place, name, style=style, deaf=deaf)
        random = Random(f"moments {name}")
        for cut in range(min(CUTS_A_RECORDING, count - number * CUTS_A_RECORDING)):
            stage = random.choices(list(STAGES), list(STAGES.values()))[0]
            yield recording.cut(place / f"cut{cut}", stage, f"{name}-{cut}")
        shutil.rmtree(place)


@dataclass(frozen=True, slots=True)
class _Recording:
    """A recording that came to its end, and all that was noted of it.

    Args:
        script: What it holds.
        announced: What the child said.
        noted: The disk, as the child took it to be.
        disk: The disk as it is: it may be deaf.
    """

    script: Script
    announced: tuple[Announcement, ...]
    noted: Disk
    disk: Disk

    @classmethod
    def made(cls, nursery: Nursery, place: Path, seed: str, *, style: Style, deaf: Sequence[str]) -> _Recording:
        """Let a child record and seal."""
        root, grave = place / "traces", place / "grave"
        root.mkdir(parents=True)
        grave.mkdir()
        job = Job(
            root=str(root),
            scripts=(f"{seed}-0",),
            style=style,
            log=str(place / "log"),
            grave=str(grave),
            slow_us=Random(f"disk {seed}").choice(SLOW_US),
        )
        life = nursery.raise_child(job)
        life.end()
        if life.faults:
            raise NurseryError(life.faults[0])  # a recording that is not whole serves for no cut
        noted, disk = (Disk(root, place / "log", grave, ears) for ears in ((), deaf))
        return cls(job.script(0), tuple(life.announced), noted, disk)

    def cut(self, place: Path, stage: Kind, seed: str) -> Outcome:
        """Cut the power somewhere in a stage, and judge what is left."""
        random = Random(f"cut {seed}")
        lines, at_s = self._moment(stage, random)
        heard = [each for each in self.announced if each.at_s <= at_s]
        account = _sure(account_of(self.script, heard), heard, self.noted, lines)
        moods = self.disk.cut(lines, place, random)
        folder = place / self.script.trace_id
        broken: list[str] = []
        verdict = Verdict()
        if folder.exists():
            verdict = judge(folder, account, seed=seed)
            broken += verdict.broken
        elif account.created:
            broken.append("the trace is gone")
        taken = max((each.samples for each in heard if each.kind is Kind.TAKEN), default=0)
        lost_s = 0.0
        if verdict.intact < taken:
            asked = (each for each in heard if each.kind is Kind.TAKING and each.samples > verdict.intact)
            lost_s = at_s - next(asked).at_s
        bound_s = (
            self.script.sync_s
            + self.script.coalesce_s
            + 2 * _longest_silence_s(heard, at_s)
            + 2 * self.noted.slowest_sync_s(lines, at_s, self.script.trace_id)
            + SLACK_S
        )
        if lost_s > bound_s:
            broken.append(f"samples of the last {lost_s:.3f} s are lost, promised were {bound_s:.3f} s")
        shutil.rmtree(place, ignore_errors=True)
        return Outcome(
            stage=stage.name.lower(),
            rows_sure=account.rows_sure,
            rows_taken=taken,
            lost_s=lost_s,
            bound_s=bound_s,
            moods=", ".join(f"{Path(name).name} {mood}" for name, mood in moods.items()),
            verdict=verdict,
            broken=tuple(broken),
        )

    def _moment(self, stage: Kind, random: Random) -> tuple[int, float]:
        """After how many lines of the log the power is cut, and when: after the last of them, before the next."""
        log = self.noted.lines
        starts = {kind: next(each.at_s for each in self.announced if each.kind is kind) for kind in STAGES}
        ends = dict(zip(STAGES, [*list(starts.values())[1:], log[-1].at_s + 0.01], strict=True))
        if random.random() < 0.5:  # by time, or by what was done: there are calm times and busy ones
            lines = self.noted.line_at(random.uniform(starts[stage], ends[stage]))
        else:
            lines = random.randint(self.noted.line_at(starts[stage]), self.noted.line_at(ends[stage]))
        from_s = log[lines - 1].at_s if lines else starts[stage]
        until_s = log[lines].at_s if lines < len(log) else from_s + 0.01
        return lines, random.uniform(from_s, until_s)


def _sure(known: Account, heard: Sequence[Announcement], disk: Disk, lines: int) -> Account:
    """What of that is sure although the power was cut: what was with the kernel before the first change that is not."""
    if known.closed:
        return replace(known, readable=False)
    unsure_s = disk.first_unsure_s(lines, known.script.trace_id, (*HOT, JOURNAL))
    sure = [each for each in heard if each.kind in (Kind.TAKEN, Kind.TICKED) and each.at_s < unsure_s]
    return replace(
        known,
        rows_sure=max((each.written for each in sure), default=0),
        records_sure=sure[-1].records if sure else 0,
        readable=False,
    )


def _longest_silence_s(heard: Sequence[Announcement], at_s: float) -> float:
    """Longest time between two words of a child that records, s: a call, a pause, or a machine that has no time."""
    times_s = [*(each.at_s for each in heard if each.kind is not Kind.CREATING), at_s]
    return max((after - before for before, after in pairwise(times_s)), default=0.0)
