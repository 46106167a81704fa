"""Why a run or trial ended as it did: a closed set, each with its end state, its blame, one sentence and a remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from labd.model.states import RunState


class Blame(StrEnum):
    """Whose fault it is, which decides whether the job is tried again, and who is looked at."""

    BOARD = "board"
    INSTRUMENT = "instrument"
    JOB = "job"
    RULES = "rules"
    LAB = "lab"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a cause means to an operator."""

    state: RunState
    blame: Blame
    sentence: str
    remedy: str


class Cause(StrEnum):
    """The closed set of causes."""

    BOARD_NOT_OFF = "board_not_off"
    BOARD_SILENT = "board_silent"
    BOARD_REBOOTED = "board_rebooted"
    BOARD_REFUSED = "board_refused"
    BOARD_NONSENSE = "board_nonsense"
    BOARD_OVERLOAD = "board_overload"
    SERIAL_LOST = "serial_lost"
    WRONG_MODEL = "wrong_model"
    WRONG_MODE = "wrong_mode"
    FIRMWARE_MISSING = "firmware_missing"
    FLASH_FAILED = "flash_failed"
    EDGES_MISSING = "edges_missing"
    EDGES_EXTRA = "edges_extra"
    EDGES_LOST = "edges_lost"
    TIMEBASE_POOR = "timebase_poor"
    PLACEMENT_DISPUTED = "placement_disputed"
    INSTRUMENT_UNREACHABLE = "instrument_unreachable"
    INSTRUMENT_SILENT = "instrument_silent"
    INSTRUMENT_NONSENSE = "instrument_nonsense"
    INSTRUMENT_ERROR = "instrument_error"
    CAPTURE_DAMAGED = "capture_damaged"
    SAMPLES_SPARSE = "samples_sparse"
    TRACE_FAILED = "trace_failed"
    DISK_FULL = "disk_full"
    WINDOW_SHORT = "window_short"
    TRIALS_MISSING = "trials_missing"
    QUALITY_MISSED = "quality_missed"
    STORE_FAILED = "store_failed"
    SCORE_FAILED = "score_failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    POISON = "poison"
    UNREADABLE = "unreadable"
    LAB_STOPPED = "lab_stopped"
    BOARD_REMOVED = "board_removed"
    DAEMON_STOPPED = "daemon_stopped"
    DAEMON_DIED = "daemon_died"
    DEADLINE_MISSED = "deadline_missed"
    INTERNAL = "internal"

    @property
    def meaning(self) -> Meaning:
        """End state, blame, sentence and remedy."""
        return _MEANINGS[self]


_MEANINGS = {
    Cause.BOARD_NOT_OFF: Meaning(
        RunState.FAILED,
        Blame.BOARD,
        "The board's supply rail did not fall to zero with its output off.",
        "Look for a second supply, such as a USB cable or a debug probe that feeds the board.",
    ),
    Cause.BOARD_SILENT: Meaning(
        RunState.FAILED,
        Blame.BOARD,
        "The board did not answer in time.",
        "Check its power, its serial wiring and the baud rate of the mode.",
    ),
    Cause.BOARD_REBOOTED: Meaning(
        RunState.FAILED,
        Blame.BOARD,
        "The board started again in the middle of the dialogue.",
        "Look for a watchdog reset, a brown-out or a current limit that is too low.",
    ),
    Cause.BOARD_REFUSED: Meaning(
        RunState.FAILED,
        Blame.BOARD,
        "The board answered a command with an error.",
        "Read the board's own words in the run's detail.",
    ),
    Cause.BOARD_NONSENSE: Meaning(
        RunState.FAILED,
        Blame.BOARD,
        "The board's answer breaks the protocol.",
        "Check the baud rate and the firmware build.",
    ),
    Cause.BOARD_OVERLOAD: Meaning(
        RunState.FAILED,
        Blame.BOARD,
        "The board drew more than its limits allow, and the supply's protection switched it off.",
        "Check for a short, or raise the board's limits if its data sheet allows it.",
    ),
    Cause.SERIAL_LOST: Meaning(
        RunState.FAILED,
        Blame.BOARD,
        "The board's serial line went away.",
        "Check the adapter and its cable.",
    ),
    Cause.WRONG_MODEL: Meaning(
        RunState.FAILED,
        Blame.JOB,
        "The board runs another model than the benchmark asks for.",
        "Check the image that lab.toml names for this benchmark.",
    ),
    Cause.WRONG_MODE: Meaning(
        RunState.FAILED,
        Blame.JOB,
        "The board's firmware was built for another mode than the job asks for.",
        "Check the images that lab.toml names for each mode.",
    ),
    Cause.FIRMWARE_MISSING: Meaning(
        RunState.FAILED,
        Blame.JOB,
        "The firmware image that the job needs cannot be read.",
        "Build it, or correct its path in lab.toml.",
    ),
    Cause.FLASH_FAILED: Meaning(
        RunState.FAILED,
        Blame.BOARD,
        "The image could not be written into the board.",
        "Check the debug probe and its server; its own words are in the run's detail.",
    ),
    Cause.EDGES_MISSING: Meaning(
        RunState.FAILED,
        Blame.BOARD,
        "Fewer than two timing edges came for a window.",
        "Check the wire of the timing pin and that the energy image is flashed.",
    ),
    Cause.EDGES_EXTRA: Meaning(
        RunState.FAILED,
        Blame.BOARD,
        "More than two timing edges came in a window.",
        "Look for ringing on the timing pin, or set a longer hold-off in lab.toml.",
    ),
    Cause.EDGES_LOST: Meaning(
        RunState.FAILED,
        Blame.INSTRUMENT,
        "The timestamper lost at least one edge.",
        "Check its cable; its running numbers have a hole.",
    ),
    Cause.TIMEBASE_POOR: Meaning(
        RunState.FAILED,
        Blame.INSTRUMENT,
        "The timing edges could not be placed on the trace within the stated limit.",
        "Wire a sync load, or a sync pulse from the timestamper to the analyzer's trigger; check the timing pin.",
    ),
    Cause.PLACEMENT_DISPUTED: Meaning(
        RunState.INVALID,
        Blame.RULES,
        "Witnesses disagree on where the windows lie in the trace, or too few of them can tell.",
        "See what each witness said in the score; docs/reference/placement.md tells what to look at.",
    ),
    Cause.INSTRUMENT_UNREACHABLE: Meaning(
        RunState.FAILED,
        Blame.INSTRUMENT,
        "An instrument cannot be reached.",
        "Check that it is on and that its address in lab.toml is right.",
    ),
    Cause.INSTRUMENT_SILENT: Meaning(
        RunState.FAILED,
        Blame.INSTRUMENT,
        "An instrument stopped answering.",
        "Check its network and its front panel; the next run opens a new session.",
    ),
    Cause.INSTRUMENT_NONSENSE: Meaning(
        RunState.FAILED,
        Blame.INSTRUMENT,
        "An instrument answered something that its manual does not know.",
        "Check that nothing else talks to it.",
    ),
    Cause.INSTRUMENT_ERROR: Meaning(
        RunState.FAILED,
        Blame.INSTRUMENT,
        "An instrument reported an error of its own.",
        "Read its error queue in the run's detail.",
    ),
    Cause.CAPTURE_DAMAGED: Meaning(
        RunState.INVALID,
        Blame.RULES,
        "Samples inside a window were skipped, overwritten, clipped or no readings.",
        "Lower the load of the host, or widen the current range.",
    ),
    Cause.SAMPLES_SPARSE: Meaning(
        RunState.INVALID,
        Blame.RULES,
        "The samples are instants, and an inference repeats in step with them: they may miss what lies between.",
        "Ask for another sample period, or measure with an analyzer whose samples are means.",
    ),
    Cause.TRACE_FAILED: Meaning(
        RunState.FAILED,
        Blame.LAB,
        "The trace could not be written or sealed.",
        "Check free space and rights of the data directory.",
    ),
    Cause.DISK_FULL: Meaning(
        RunState.FAILED,
        Blame.LAB,
        "The disk became full while the trace was written.",
        "Make room, then queue the job again; what was recorded is kept, and sealed as soon as there is room.",
    ),
    Cause.WINDOW_SHORT: Meaning(
        RunState.INVALID,
        Blame.RULES,
        "A window lasted less than the benchmark asks.",
        "Queue the job again; if it repeats, the board's speed changes between calibration and measurement.",
    ),
    Cause.TRIALS_MISSING: Meaning(
        RunState.INVALID,
        Blame.RULES,
        "Fewer trials could be scored than the benchmark asks.",
        "Read why the other trials were refused in the run's findings, then queue the job again.",
    ),
    Cause.QUALITY_MISSED: Meaning(
        RunState.INVALID,
        Blame.RULES,
        "The accuracy is below the benchmark's target.",
        "Check the model that was flashed and the inputs that were sent.",
    ),
    Cause.STORE_FAILED: Meaning(
        RunState.INTERRUPTED,
        Blame.LAB,
        "The lab's database refused what the run had to note.",
        "Check free space and what else uses the database; the job is queued again.",
    ),
    Cause.SCORE_FAILED: Meaning(
        RunState.FAILED,
        Blame.JOB,
        "No score could be made from what was measured.",
        "Read what the scorer missed in the run's detail; the trace is kept and can be scored again.",
    ),
    Cause.CANCELLED: Meaning(RunState.CANCELLED, Blame.NOBODY, "An operator cancelled the job.", ""),
    Cause.EXPIRED: Meaning(
        RunState.FAILED,
        Blame.NOBODY,
        "The job's deadline passed before it could start.",
        "Queue it with a later deadline or a higher priority; `labctl job why` told what it waited for.",
    ),
    Cause.POISON: Meaning(
        RunState.FAILED,
        Blame.JOB,
        "The job failed on several boards, or the daemon died with it again and again, so it was parked.",
        "Look at its runs; release it to try again, or cancel it.",
    ),
    Cause.UNREADABLE: Meaning(
        RunState.FAILED,
        Blame.LAB,
        "This version of labd does not understand the job as it is stored, so it was parked.",
        "Release it under a version of labd that does, or cancel it.",
    ),
    Cause.LAB_STOPPED: Meaning(
        RunState.INTERRUPTED,
        Blame.LAB,
        "The lab was stopped in an emergency while the run was on.",
        "Nothing: the job is queued again, and starts when the lab is resumed.",
    ),
    Cause.BOARD_REMOVED: Meaning(
        RunState.INTERRUPTED,
        Blame.LAB,
        "The board was taken out of lab.toml before the run had begun.",
        "Nothing: the job is queued again.",
    ),
    Cause.DAEMON_STOPPED: Meaning(
        RunState.INTERRUPTED,
        Blame.LAB,
        "The daemon was stopped while the run was on.",
        "Nothing: the job is queued again.",
    ),
    Cause.DAEMON_DIED: Meaning(
        RunState.INTERRUPTED, Blame.LAB, "The daemon died while the run was on.", "Nothing: the job is queued again."
    ),
    Cause.DEADLINE_MISSED: Meaning(
        RunState.FAILED,
        Blame.BOARD,
        "A step of the run took longer than its deadline.",
        "Read the step in the run's detail.",
    ),
    Cause.INTERNAL: Meaning(
        RunState.FAILED, Blame.LAB, "labd itself made a mistake.", "Report it with the log lines of this run."
    ),
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: well, if there is no cause; `detail` says what was seen."""

    cause: Cause | None = None
    detail: str = ""

    @property
    def state(self) -> RunState:
        """The run's last state."""
        return RunState.COMPLETED if self.cause is None else self.cause.meaning.state
