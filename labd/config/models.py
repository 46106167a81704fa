"""`lab.toml` as frozen models: what the rack holds, how it is wired, and what each board may be given."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, field_validator

from labd.benchmarks import Mode

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""Ids appear in topics, paths and tables: lower case, digits, dot, dash, underscore."""


class Model(BaseModel):
    """Frozen, and no key that labd does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Lab(Model):
    """The rack itself."""

    name: Name
    data_dir: Path = Path("var")
    log_level: Literal["debug", "info", "warning", "error"] = "info"


EMBEDDED = "embedded"
"""In place of a broker's address: the daemon's own."""


class Mqtt(Model):
    """The broker: `mqtt://host:port`, `mqtts://host:port`, or `embedded` for the demo."""

    url: str = "mqtt://127.0.0.1:1883"
    user: str | None = None
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


class Store(Model):
    """The database, and the archive of traces; what is recorded lies in the lab's data directory first.

    Credentials of the archive come from the environment or AWS's own places, never from here.
    """

    database_url: str | None = None
    """None: `labd.db` in the data directory."""
    archive_url: str | None = None
    """Where sealed traces are brought, `s3://bucket/prefix`; None: nowhere."""
    endpoint: str | None = None
    """The S3 server, `https://host:port`; None: that of AWS."""
    region: str | None = None
    """None: `AWS_REGION`, else us-east-1."""
    allow_http: bool = False
    """Whether the endpoint may be one without TLS."""
    keep_local: bool | float = True
    """Whether an archived trace keeps its local copy, or for how many days."""

    @field_validator("keep_local", mode="before")
    @classmethod
    def _days(cls, keep_local: Any) -> bool | float:
        """By hand: of a union pydantic tells one deviation twice."""
        if not isinstance(keep_local, bool | int | float) or not 0 <= keep_local <= 36_500:
            raise ValueError("is neither true, nor false, nor a number of days up to 36500")
        return keep_local

    @property
    def local_copies(self) -> timedelta | None:
        """How long an archived trace keeps its local copy; None for as long as there is room."""
        if isinstance(self.keep_local, bool):
            return None if self.keep_local else timedelta(0)
        return timedelta(days=self.keep_local)


class KeepRule(Model):
    """How long some traces are kept: of the rules that a trace meets, the first one holds."""

    outcome: tuple[Literal["completed", "failed", "invalid", "interrupted", "cancelled"], ...] = ()
    """How its run ended: one of these; empty for any."""
    label: dict[str, str] = {}
    """Labels that its job has, all of them."""
    max_age_days: float | None = Field(default=None, gt=0)
    keep: bool = False
    """It is never removed."""


class Keep(Model):
    """How long traces are kept, and how much room stays free. As it comes, nothing is ever removed."""

    max_age_days: float | None = Field(default=None, gt=0)
    """Traces that no rule speaks of are removed when they are older than this; None: never."""
    max_size_gb: float | None = Field(default=None, gt=0)
    """Most that lies in the lab's own folder, GB; None: as much as the disk takes."""
    low_gb: float = Field(default=5.0, ge=0)
    """With less room than this no capture starts, GB."""
    critical_gb: float = Field(default=2.0, ge=0)
    """With less room than this copies of archived traces go, and with `reclaim` others too, GB."""
    reclaim: bool = False
    """Below `critical_gb`, remove the oldest traces for good."""
    rule: tuple[KeepRule, ...] = ()


class Queue(Model):
    """In which order jobs are served, and how often one is tried."""

    max_queued: int = Field(default=200_000, ge=1)
    """With so many jobs waiting, further ones are refused."""
    max_sweep_jobs: int = Field(default=10_000, ge=1)
    """Most jobs of one expansion of a sweep."""
    ageing_s: float = Field(default=3600.0, gt=0)
    """Waiting time that is worth a level of priority among the jobs of one requester, s."""
    level_s: float = Field(default=600.0, ge=0)
    """Board time that a level of priority may bring its requester forward against others, s."""
    half_life_s: float = Field(default=86_400.0, gt=0)
    """After so long, what a requester has had of the boards counts half, s."""
    batch_s: float = Field(default=600.0, ge=0)
    """How much board time a job may be passed over by others whose firmware the board holds already, s."""
    flaky_retries: int = Field(default=2, ge=0, le=10)
    """How often a job is tried again after a failure that may be its board's."""
    interruptions_max: int = Field(default=5, ge=1)
    """A job that was on when the daemon died so often in a row is parked."""


class Health(Model):
    """When boards are looked at, and when one is no longer trusted."""

    check_every_s: float = Field(default=21_600.0, gt=0)
    """Longest time without a passed check or a completed run, s."""
    quarantine_after: int = Field(default=3, ge=1)
    """Failures of its own in a row that put a board into quarantine."""
    retry_s: float = Field(default=900.0, gt=0)
    """Pause between two checks of a quarantined board, s; it doubles up to a day."""
    golden: str | None = None
    """Benchmark of the golden job, run in energy mode where the board is wired for it; None: there is none."""
    golden_every_s: float = Field(default=86_400.0, gt=0)
    golden_tolerance_percent: float = Field(default=3.0, gt=0)
    """How far the golden job may be from the board's own earlier ones, %."""


class ReservationRules(Model):
    """What a person may hold of the boards, and for how long."""

    max_s: float = Field(default=86_400.0, gt=0)
    """Longest that a reservation holds its board from now on, also by extending it, s."""
    warn_s: float = Field(default=600.0, ge=0)
    """How long before its end the owner is told, s."""
    max_per_owner: int = Field(default=8, ge=1)
    """With so many waiting or active ones, its owner is refused another."""


class User(Model):
    """Somebody whom the broker knows by name or certificate. With no users in the file the lab is open to everybody."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    role: Literal["viewer", "operator", "admin"]
    share: float = Field(default=1.0, gt=0)
    """Weight of the user's jobs against those of others."""


class Http(Model):
    """The read-only endpoint for traces, `host:port`; loopback unless said otherwise."""

    listen: str = "127.0.0.1:8080"


class Instrument(Model):
    """An instrument; all keys but these belong to the driver's own options."""

    model_config = ConfigDict(extra="allow")

    id: Name
    driver: str
    calibrated_on: date | None = None
    """When it was last calibrated; kept with every trace that it records."""

    @property
    def options(self) -> dict[str, Any]:
        """The keys for the driver."""
        return dict(self.model_extra or {})


class Limits(Model):
    """Absolute limits of a board; nothing that labd does goes beyond them."""

    voltage_max_v: float = Field(gt=0, le=60)
    current_max_a: float = Field(gt=0, le=20)


class Supply(Model):
    """Which channel feeds the board, and with what."""

    instrument: Name
    channel: int = Field(ge=1)
    voltage_v: float = Field(gt=0)
    off_below_v: float = Field(default=0.1, gt=0)
    """Below this the board counts as off, V."""
    discharge_s: float = Field(default=5.0, gt=0)
    """Longest wait for the rail to fall below that, s."""


class Measure(Model):
    """Which channel measures the board's supply current."""

    instrument: Name
    channel: int = Field(ge=1)
    current_range_a: float | None = None
    """None: the board's current limit picks the range."""


class Load(Model):
    """A resistor that a pulse pin of the timestamper switches across the board's supply: the sync load."""

    pin: int = Field(ge=0)
    """Pin of the same instrument that switches it: on while the pin is high."""
    ohm: float = Field(gt=0)
    """Its value with all that is in series with it, Ω."""
    tolerance_percent: float = Field(default=5.0, ge=0, le=50)
    """Half width of the error of that value, %."""
    switch_us: float = Field(default=2.0, ge=0, le=500)
    """Longest time from the pin's edge to the step of the current, µs."""


class Timing(Model):
    """How the timing pin is seen."""

    instrument: Name
    pin: int = Field(ge=0)
    edge: Literal["falling", "rising"] = "falling"
    method: Literal["sampled", "timestamped"] = "timestamped"
    pulse_us: float = Field(default=1.0, gt=0)
    """Shortest time the firmware holds the pin, µs; what cannot be seen by the method is refused."""
    hold_us: float = Field(default=50.0, ge=0)
    """Edges closer than this to the one before are ringing, µs."""
    sync_pin: int | None = None
    """Pin of the same instrument whose pulse starts the analyzer's capture; None if not wired."""
    load: Load | None = None
    """The sync load, whose steps any analyzer sees; None if not wired."""


DEFAULT_BAUD = {Mode.PERFORMANCE: 115200, Mode.ENERGY: 9600}


class Serial(Model):
    """The board's serial line."""

    port: str
    driver: str = "serial"
    baud: dict[Mode, PositiveInt] = Field(default=DEFAULT_BAUD)
    """bit/s by mode of the image; what is not said is EEMBC's rate of that mode."""

    @field_validator("baud")
    @classmethod
    def _fill(cls, baud: dict[Mode, int]) -> dict[Mode, int]:
        return {**DEFAULT_BAUD, **baud}

    def baud_for(self, mode: Mode) -> int:
        """The rate of the image that `mode` runs on, bit/s."""
        return self.baud[mode.image]


class Flash(Model):
    """How images get into the board; all keys but driver belong to the driver's own options."""

    model_config = ConfigDict(extra="allow")

    driver: str

    @property
    def options(self) -> dict[str, Any]:
        """The keys for the driver."""
        return dict(self.model_extra or {})


class Board(Model):
    """A board and its wiring."""

    id: Name
    tags: tuple[str, ...] = ()
    target: str = "native"
    """Which firmware builds run on it: matches `target` of a `[[firmware]]`."""
    limits: Limits
    supply: Supply
    measure: Measure | None = None
    timing: Timing | None = None
    serial: Serial
    flash: Flash | None = None
    capabilities: dict[str, bool | int | float | str] = {}
    """What a job's `require` can ask of it: `{ memory_kb = 640, fpu = true }`."""
    resources: tuple[Name, ...] = ()
    """Things that it shares with other boards, of which one at a time can have them: a mux, a hub's port, a probe."""
    idle_current_a: tuple[float, float] | None = None
    """Least and most that it draws when it is on and idle, A; None: it is not checked."""
    clock_ppm: float = Field(default=100.0, gt=0)
    """Half width of the error of the board's own clock, which its lap times count in, ppm."""

    @property
    def instruments(self) -> frozenset[str]:
        """Ids of all instruments that it is wired to."""
        wired = (self.supply, self.measure, self.timing)
        return frozenset(each.instrument for each in wired if each is not None)

    @field_validator("capabilities", mode="before")
    @classmethod
    def _plain(cls, capabilities: Any) -> Any:
        """By hand: of a union pydantic tells one deviation four times."""
        for name, value in capabilities.items() if isinstance(capabilities, dict) else ():
            if not isinstance(value, bool | int | float | str):
                raise ValueError(f"{name} is neither true or false, nor a number, nor a text")
        return capabilities

    def can(self, mode: Mode) -> bool:
        """Whether the wiring serves `mode`: energy needs an analyzer and a timing pin."""
        return mode is not Mode.ENERGY or (self.measure is not None and self.timing is not None)


class Firmware(Model):
    """A build of a benchmark for one kind of board: an image for each mode it was compiled for."""

    name: str
    benchmark: str
    target: str
    images: dict[Mode, Path]
    clock_mhz: float | None = Field(default=None, gt=0)
    """The clock that the image sets, MHz, for jobs that ask for one; None: it is not known."""


class LabConfig(Model):
    """The whole of `lab.toml`. Relative paths are taken from the folder of the file."""

    lab: Lab
    mqtt: Mqtt = Field(default_factory=Mqtt)
    store: Store = Field(default_factory=Store)
    http: Http = Field(default_factory=Http)
    keep: Keep = Field(default_factory=Keep)
    queue: Queue = Field(default_factory=Queue)
    health: Health = Field(default_factory=Health)
    reservation: ReservationRules = Field(default_factory=ReservationRules)
    user: tuple[User, ...] = ()
    instrument: tuple[Instrument, ...] = ()
    board: tuple[Board, ...] = ()
    firmware: tuple[Firmware, ...] = ()

    @property
    def database_url(self) -> str:
        """The database: as configured, or SQLite in the data directory."""
        return self.store.database_url or f"sqlite:///{self.lab.data_dir / 'labd.db'}"

    @property
    def traces_dir(self) -> Path:
        """Where the traces lie."""
        return self.lab.data_dir / "traces"

    @property
    def driver_names(self) -> frozenset[str]:
        """Names of all drivers that the lab uses."""
        lines = {board.serial.driver for board in self.board}
        probes = {board.flash.driver for board in self.board if board.flash is not None}
        return frozenset({instrument.driver for instrument in self.instrument} | lines | probes)

    def board_by_id(self, board_id: str) -> Board | None:
        """The board of that id."""
        return next((board for board in self.board if board.id == board_id), None)

    def firmware_for(self, board: Board, benchmark: str, mode: Mode, name: str | None = None) -> Path | None:
        """The image of `benchmark`, of the build `name` if given, that `board` needs for `mode`; None without one."""
        for build in self.firmware:
            if name not in (None, build.name):
                continue
            if build.benchmark == benchmark and build.target == board.target and mode.image in build.images:
                return build.images[mode.image]
        return None
