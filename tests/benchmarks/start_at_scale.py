"""How long the daemon takes to start, and what memory it has then, with a long queue and a longer past."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from labd.benchmarks import BENCHMARKS, Mode
from labd.model.migrations import newest_revision, upgrade
from labd.service.messages import JobSpec
from tests.benchmarks.figure import Better, Figure
from tests.benchmarks.memory import rss_anon_mb

START_LIMIT_S = 5.0
MEMORY_LIMIT_MB = 300.0
READY_S = 120.0
SETTLE_S = 10.0
"""After so long the first decisions are made, and the first jobs were tried, s."""
CACHE = Path("build/start_at_scale")
BOARDS = 4
LAB = """
[lab]
name = "scale"
data_dir = "var"

[mqtt]
url = "mqtt://127.0.0.1:{mqtt}"

[http]
listen = "127.0.0.1:0"

[[instrument]]
id = "psu-1"
driver = "keysight-n6705c"
resource = "TCPIP::127.0.0.1::{psu}::SOCKET"

[[firmware]]
name = "labd-dut"
benchmark = "digits01"
target = "native"
images = {{ performance = "performance.elf", energy = "energy.elf" }}
"""
BOARD = """
[[board]]
id = "b{number}"
tags = ["m4"]
capabilities = {{ memory_kb = {memory} }}
limits = {{ voltage_max_v = 3.6, current_max_a = 0.1 }}
supply = {{ instrument = "psu-1", channel = {number}, voltage_v = 3.0 }}
serial = {{ port = "{folder}/tty{number}" }}
"""
REQUIRE = ("", "memory_kb >= 128", "memory_kb >= 256", "tag('m4')")


async def start_at_scale(queued: int = 100_000, finished: int = 1_000_000) -> tuple[Figure, ...]:
    """Start of the real daemon with so many jobs, each finished one with a run, its lease and six events.

    The time runs from the start of the process to its READY; the memory is what is resident and belongs to no file,
    once the first decisions are made. The lab has four boards on an instrument that is not there, and no broker, so
    every start is refused by what a lab has to cope with anyway. The database is made once, and a copy of it started.
    """
    made = await asyncio.to_thread(_database, queued, finished)
    folder = Path(tempfile.mkdtemp(prefix="labd-scale-", dir=CACHE))
    try:
        await asyncio.to_thread(_lab, folder, made)
        start_s, ready_mb, settled_mb = await _started(folder)
    finally:
        shutil.rmtree(folder)
    told = f"{queued:,} queued and {finished:,} finished jobs, a database of {made.stat().st_size / 1e9:.2f} GB"
    return (
        Figure("start_at_scale", start_s, "s", START_LIMIT_S, Better.LOWER, f"to READY, with {told}"),
        Figure("start_at_scale_memory", ready_mb, "MB", MEMORY_LIMIT_MB, Better.LOWER, "RssAnon at READY"),
        Figure(
            "decided_at_scale_memory",
            settled_mb,
            "MB",
            MEMORY_LIMIT_MB,
            Better.LOWER,
            f"RssAnon {SETTLE_S:g} s later, after the first decisions",
        ),
    )


def _lab(folder: Path, made: Path) -> None:
    (folder / "var").mkdir()
    shutil.copyfile(made, folder / "var" / "labd.db")
    for name in ("performance.elf", "energy.elf", *(f"tty{number}" for number in range(1, BOARDS + 1))):
        (folder / name).touch()
    boards = "".join(
        BOARD.format(number=number, memory=64 * number, folder=folder.absolute()) for number in range(1, BOARDS + 1)
    )
    (folder / "lab.toml").write_text(LAB.format(mqtt=_closed_port(), psu=_closed_port()) + boards, encoding="utf-8")


def _closed_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _started(folder: Path) -> tuple[float, float, float]:
    """Seconds to READY, and MB then and after the first decisions."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as told, (folder / "log").open("wb") as log:
        told.bind(str(folder / "notify"))
        told.setblocking(False)
        began = time.perf_counter()
        daemon = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "labd", "run", str(folder / "lab.toml")),
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
            stdout=log,
            stderr=log,
        )
        try:
            await _ready(told, daemon, folder / "log")
            start_s = time.perf_counter() - began
            ready_mb = rss_anon_mb(daemon.pid)
            await asyncio.sleep(SETTLE_S)
            settled_mb = rss_anon_mb(daemon.pid)
        finally:
            if daemon.returncode is None:
                daemon.terminate()
            await daemon.wait()
    if daemon.returncode != 0:
        raise RuntimeError(f"the daemon ended with {daemon.returncode}:\n{_last(folder / 'log')}")
    return start_s, ready_mb, settled_mb


def _last(log: Path) -> str:
    return log.read_text(encoding="utf-8")[-3000:]


async def _ready(told: socket.socket, daemon: asyncio.subprocess.Process, log: Path) -> None:
    """Wait for READY=1; a daemon that ends before says why in its log."""
    ended = asyncio.create_task(daemon.wait())
    heard = asyncio.create_task(asyncio.get_running_loop().sock_recv(told, 4096))
    try:
        async with asyncio.timeout(READY_S):
            await asyncio.wait({ended, heard}, return_when=asyncio.FIRST_COMPLETED)
        if not heard.done() or b"READY=1" not in heard.result():
            raise RuntimeError(f"the daemon did not become ready:\n{_last(log)}")
    finally:
        ended.cancel()
        heard.cancel()


# --- the database ---------------------------------------------------------------------------------------------


def _database(queued: int, finished: int) -> Path:
    """The database, made when there is none for this schema, these numbers and this code."""
    key = f"{newest_revision()} {queued} {finished} {Path(__file__).read_text(encoding='utf-8')}"
    path = CACHE / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.db"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob("*.db*"):
        old.unlink()
    making = path.with_suffix(".making")
    making.unlink(missing_ok=True)
    upgrade(f"sqlite:///{making}")
    with closing(sqlite3.connect(making, isolation_level=None)) as connection:
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-200000"):
            connection.execute(f"PRAGMA {setting}")
        _fill(connection, queued, finished)
        connection.execute("ANALYZE")
    making.rename(path)
    return path


def _fill(connection: sqlite3.Connection, queued: int, finished: int) -> None:
    connection.execute("CREATE TEMP TABLE wish (number INTEGER PRIMARY KEY, spec, requirement)")
    for number, require in enumerate(REQUIRE):
        spec = JobSpec(benchmark="digits01", mode=Mode.ACCURACY, require=require or None)
        stored = spec.filled(BENCHMARKS["digits01"]).model_dump_json()
        connection.execute("INSERT INTO wish VALUES (?, ?, ?)", (number, stored, spec.requirement.canonical()))
    connection.execute("CREATE TEMP TABLE number (i INTEGER PRIMARY KEY)")
    connection.execute("BEGIN")
    connection.execute(
        "INSERT INTO number WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT :all) SELECT i FROM n",
        {"all": queued + finished},
    )
    connection.executemany(
        "INSERT INTO board (id, state, reason, changed_at, strikes) VALUES (?, 'online', '', ?, 0)",
        [(f"b{number}", "2026-01-01 00:00:00.000000") for number in range(1, BOARDS + 1)],
    )
    counts = {"finished": finished, "wishes": len(REQUIRE), "boards": BOARDS}
    for statement in _STATEMENTS:
        connection.execute(statement, counts)
    connection.execute("COMMIT")


def _at(seconds: str) -> str:
    """SQL for so many seconds after the lab's first day, as labd stores a time."""
    return f"strftime('%Y-%m-%d %H:%M:%S.000000', '2026-01-01', ({seconds}) || ' seconds')"


_BOARD = "'b' || (1 + i % :boards)"
_BEGAN, _ENDED = _at("20 * i"), _at("20 * i + 15")
_STATEMENTS = (
    f"""INSERT INTO job (id, benchmark, mode, state, detail, client, spec, submitted_at, ended_at, requester, priority,
                         deadline, requirement, estimate_s, avoid, forgiven)
        SELECT i, 'digits01', 'accuracy', iif(i <= :finished, 'completed', 'queued'), '', 'bench', wish.spec, {_BEGAN},
               iif(i <= :finished, {_ENDED}, NULL), 'user-' || (i * 7 % 20), i * 13 % 21 - 10,
               iif(i > :finished AND i % 10 = 0, '2199-01-01 00:00:00.000000', NULL), wish.requirement, 15.0, '[]', 0
        FROM number JOIN wish ON wish.number = i % :wishes ORDER BY i""",
    f"""INSERT INTO run (id, job_id, attempt, board_id, state, step, detail, firmware_sha256, facts, started_at,
                         ended_at)
        SELECT i, i, 1, {_BOARD}, 'completed', 'score', '', hex(zeroblob(32)),
               '{{"vendor":"labd","profile":"labd DUT firmware","model":"digits01"}}', {_BEGAN}, {_ENDED}
        FROM number WHERE i <= :finished""",
    f"""INSERT INTO lease (id, board_id, purpose, owner, run_id, granted_at, expires_at, released_at)
        SELECT i, {_BOARD}, 'run', 'labd', i, {_BEGAN}, {_ENDED}, {_ENDED} FROM number WHERE i <= :finished""",
    f"""INSERT INTO event (at, kind, subject, state, reason, actor, job_id, run_id, board_id)
        SELECT {_BEGAN}, kind, iif(kind = 'job', i, iif(kind = 'run', i, {_BOARD})), state, '', 'labd',
               iif(kind = 'board', NULL, i), iif(kind = 'run', i, NULL), iif(kind = 'job', NULL, {_BOARD})
        FROM number JOIN (SELECT 'job' AS kind, 'queued' AS state UNION ALL VALUES ('job', 'running'),
                          ('run', 'running'), ('board', 'busy'), ('run', 'completed'), ('job', 'completed'))
        WHERE i <= :finished OR state = 'queued'""",
    """INSERT INTO share (requester, used_s, at)
       SELECT DISTINCT requester, 1000.0, '2026-01-01 00:00:00.000000' FROM job""",
)
"""A past and a queue: jobs, runs, leases and events as the ledger leaves them, with twenty requesters."""
