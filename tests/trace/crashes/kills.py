"""kill -9 at random moments of recording, closing and sealing, and of the salvage after it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from tests.trace.crashes.disk import read_log
from tests.trace.crashes.judge import Account, Verdict, judge
from tests.trace.crashes.nursery import Life, Nursery
from tests.trace.crashes.script import Script, Style
from tests.trace.crashes.writer import Announcement, Doom, Job, Kind

STAGES = {Kind.CREATING: 1, Kind.CREATED: 9, Kind.CLOSING: 3, Kind.SEALING: 9}
"""The announcement after which the child is to die, and how often."""
WRITES = {Kind.CREATING: 4, Kind.CREATED: 400, Kind.CLOSING: 14, Kind.SEALING: 60}
"""Steps on the disk that a stage takes, about, writes among them."""
STEPS = {Kind.CREATING: 14, Kind.CREATED: 40, Kind.CLOSING: 8, Kind.SEALING: 32}
"""The same without the writes."""
SALVAGE_STEPS = 40
SALVAGES_KILLED = 0.4
SEAL_S_PER_SAMPLE = 1.5e-7
CLOSE_S = 0.02
STYLE = Style()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one death.

    Args:
        stage: What the child had been at.
        step: How many syncs and changes of names it had made since; -1 if nobody counted.
        rows_said: Samples that it had said were with the kernel.
        verdict: What the judge found, of the trace in work.
        broken: What is wrong with any of its traces.
    """

    stage: str
    step: int
    rows_said: int
    verdict: Verdict
    broken: tuple[str, ...]


def account_of(script: Script, heard: Sequence[Announcement]) -> Account:
    """What is known of a trace by what the child had said of it, if all that reached the kernel is there."""
    kinds = {each.kind for each in heard}
    closed = Kind.CLOSED in kinds
    taken = [each for each in heard if each.kind in (Kind.TAKEN, Kind.TICKED)]
    asked = [each for each in heard if each.kind is Kind.TAKING]
    return Account(
        script=script,
        created=Kind.CREATED in kinds,
        rows_sure=script.rows if closed else max((each.written for each in taken), default=0),
        rows_most=asked[-1].samples if asked else 0,
        records_sure=taken[-1].records if taken else 0,
        records_most=asked[-1].records if asked else 0,
        closed=closed,
        sealed=Kind.SEALED in kinds,
        readable=Kind.CREATED in kinds,
    )


def kills(nursery: Nursery, scratch: Path, count: int, seed: int, style: Style = STYLE) -> Iterator[Outcome]:
    """Kill `count` children.

    Args:
        nursery: Raises them.
        scratch: Folder for their traces; it is empty afterwards.
        count: How many.
        seed: Of everything, but for the machine's own pace.
        style: What they record.
    """
    for number in range(count):
        yield _one(nursery, scratch / f"kill{number}", f"{seed}-{number}", style)


def _one(nursery: Nursery, place: Path, seed: str, style: Style) -> Outcome:
    random = Random(f"kill {seed}")
    root, grave = place / "traces", place / "grave"
    root.mkdir(parents=True)
    grave.mkdir()
    traces = random.choice((1, 1, 2, 3))
    stage = random.choices(list(STAGES), list(STAGES.values()))[0]
    job = Job(
        root=str(root),
        scripts=tuple(f"{seed}-{trace}" for trace in range(traces)),
        style=style,
        log=str(place / "log") if nursery.watcher else "",
        grave=str(grave),
    )
    last = traces - 1
    by_step = nursery.watcher is not None and random.random() < 0.5
    if by_step:
        life = nursery.raise_child(replace(job, doom=_doom(random, stage, last)))
    else:
        life = nursery.raise_child(job)
        _kill_in_time(life, stage, job.script(last), last, random)
    life.end()
    outcome = _judged(nursery, job, life, random, seed)
    shutil.rmtree(place)
    return outcome


def _doom(random: Random, stage: Kind, trace: int) -> Doom:
    if random.random() < 0.4:
        return Doom(stage, trace, random.randint(1, WRITES[stage]), random.randint(0, 1000))
    return Doom(stage, trace, random.randint(1, STEPS[stage]), -1)


def _kill_in_time(life: Life, stage: Kind, script: Script, trace: int, random: Random) -> None:
    """Kill after so many announcements, and a little later than the last of them."""
    if stage is Kind.CREATED:
        step = random.choice(script.steps)
        life.wait(lambda said: (said.trace, said.kind) == (trace, Kind.TAKING) and said.samples >= step.stop)
        life.kill(random.uniform(0, random.choice((0.0005, 0.005, 0.1))))
        return
    life.wait(lambda said: (said.trace, said.kind) == (trace, stage))
    lasts_s = CLOSE_S if stage is not Kind.SEALING else CLOSE_S + SEAL_S_PER_SAMPLE * script.rows
    life.kill(random.uniform(0, lasts_s))


def _judged(nursery: Nursery, job: Job, life: Life, random: Random, seed: str) -> Outcome:
    root, heard = Path(job.root), life.announced
    trace = heard[-1].trace if heard else 0
    broken = life.faults
    verdict = Verdict()
    account = account_of(job.script(trace), [each for each in heard if each.trace == trace])
    for number in range(trace + 1):
        script = job.script(number)
        known = account if number == trace else account_of(script, [each for each in heard if each.trace == number])
        folder = root / script.trace_id
        if not folder.exists():
            if known.created:
                broken.append(f"{folder.name} is gone")
            continue
        cut_short = number == trace and random.random() < SALVAGES_KILLED
        found = judge(
            folder,
            known,
            seed=f"{seed}-{number}",
            salvaged_before=lambda _: _salvage_killed(nursery, root, random) if cut_short else None,  # noqa: B023
        )
        broken += found.broken
        if number == trace:
            verdict = found
    stage = heard[-1].kind if heard else Kind.CREATING
    step = -1
    if job.log and heard:
        since_s = next(each.at_s for each in heard if each.trace == trace and each.kind is _begun(stage))
        step = sum(line.op in "CRUTS" for line in read_log(Path(job.log)) if line.at_s > since_s)
    return Outcome(_begun(stage).name.lower(), step, account.rows_sure, verdict, tuple(broken))


def _begun(stage: Kind) -> Kind:
    """What the child was at when it had said this last."""
    if stage in (Kind.TAKING, Kind.TAKEN, Kind.TICKED):
        return Kind.CREATED
    return Kind.CLOSING if stage is Kind.CLOSED else stage


def _salvage_killed(nursery: Nursery, root: Path, random: Random) -> None:
    """Begin to salvage all there is, and die of it."""
    log = root.parent / "salvage-log"
    if nursery.watcher is not None and random.random() < 0.7:
        doom = Doom(Kind.SEALING, 0, random.randint(1, SALVAGE_STEPS), -1)
        grave = root.parent / "salvage-grave"
        grave.mkdir()
        nursery.raise_child(Job(str(root), log=str(log), grave=str(grave), doom=doom)).end()
        return
    life = nursery.raise_child(Job(str(root)))
    life.wait(lambda said: said.kind is Kind.SEALING)
    life.kill(random.uniform(0, 0.3))
    life.end()
