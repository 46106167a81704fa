"""Whether the lab's addresses and places can be used: broker, HTTP, database, folders, firmware images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from labd.benchmarks import BENCHMARKS, Mode
from labd.config.findings import Finding, one_of
from labd.config.models import EMBEDDED, Board, Firmware, Http, Lab, Mqtt, Store

"""Broker address that makes the daemon start a broker of its own."""


def check_lab(lab: Lab) -> Iterator[Finding]:
    """The data directory must be a folder, or not exist yet."""
    nearest = next(place for place in (lab.data_dir, *lab.data_dir.parents) if place.exists())
    if not nearest.is_dir():
        yield Finding(("lab", "data_dir"), f"{nearest} is a file, not a folder", "name a folder")


def check_mqtt(mqtt: Mqtt) -> Iterator[Finding]:
    """The broker's address must be one that the client can take, and the files beside it must be there."""
    if mqtt.url != EMBEDDED:
        yield from _check_broker(mqtt)
    for key in ("password_file", "ca", "cert", "key"):
        path: Path | None = getattr(mqtt, key)
        if path is not None and not path.is_file():
            yield Finding(("mqtt", key), f"there is no file {path}", "correct the path, or create the file")
    if mqtt.password_file is not None and mqtt.user is None:
        yield Finding(("mqtt", "password_file"), "has no user beside it", "add user = ...")
    if (mqtt.cert is None) != (mqtt.key is None):
        lone = "cert" if mqtt.cert is not None else "key"
        yield Finding(("mqtt", lone), "cert and key belong together", "add the other one")


def check_http(http: Http) -> Iterator[Finding]:
    """`listen` must be a host and a port."""
    try:
        split_listen(http.listen)
    except ValueError as error:
        yield Finding(("http", "listen"), str(error), 'write "127.0.0.1:8080"')


def warn_http(http: Http) -> Iterator[Finding]:
    """Who listens beyond loopback shows the traces to everybody there."""
    host, _ = split_listen(http.listen)
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        message = f"{http.listen} can be read by everybody on that network, without a password"
        yield Finding(("http", "listen"), message, "use a loopback address behind a proxy that asks who it is")


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`. Raises `ValueError` saying what is wrong."""
    parts = urlsplit(f"//{listen}")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{listen!r} has no port between 0 and 65535") from error
    if parts.hostname is None or port is None or parts.netloc != listen or "@" in listen:
        raise ValueError(f"{listen!r} is not host:port")
    return parts.hostname, port


def check_store(store: Store) -> Iterator[Finding]:
    """The database is SQLite or PostgreSQL."""
    url = store.database_url
    if url is not None and not url.startswith("sqlite:///") and urlsplit(url).scheme.split("+")[0] != "postgresql":
        message = f"{url.split('@')[-1]!r} is neither SQLite nor PostgreSQL"
        yield Finding(("store", "database_url"), message, 'write "sqlite:///var/labd.db" or "postgresql://host/name"')


def check_firmware(builds: Mapping[int, Firmware], boards: Mapping[int, Board]) -> Iterator[Finding]:
    """Every build is of a known benchmark, and has an image for each mode that its boards are wired for."""
    named: set[tuple[str, str]] = set()
    for index, build in builds.items():
        path = ("firmware", index)
        if build.benchmark not in BENCHMARKS:
            remedy = one_of(build.benchmark, BENCHMARKS, none="")
            yield Finding((*path, "benchmark"), f"there is no benchmark {build.benchmark!r}", remedy)
        if (build.name, build.target) in named:
            message = f"{build.name!r} is used twice for target {build.target}"
            yield Finding((*path, "name"), message, "give each build its own name")
        named.add((build.name, build.target))
        if Mode.ACCURACY in build.images:
            message = "accuracy runs on the performance image, as the rules ask"
            yield Finding((*path, "images", Mode.ACCURACY.value), message, "remove it")
        for mode in _modes_needed(build, boards) - _modes_built(build, builds):
            users = ", ".join(b.id for b in boards.values() if b.target == build.target and b.can(mode))
            message = f"no image for mode {mode}, which {users} can run"
            yield Finding((*path, "images"), message, f'add {mode} = "path of the image"')


def warn_firmware(builds: Mapping[int, Firmware], boards: Mapping[int, Board]) -> Iterator[Finding]:
    """Images may be built later, but whoever forgot to should hear of it."""
    targets = {board.target for board in boards.values()}
    for index, build in builds.items():
        if build.target not in targets:
            message = f"no board has target {build.target!r}"
            yield Finding(("firmware", index, "target"), message, one_of(build.target, targets, none="add a board"))
        for mode, image in build.images.items():
            if not image.is_file():
                message = f"there is no file {image}"
                yield Finding(("firmware", index, "images", mode.value), message, "build it before a job asks for it")


def _modes_needed(build: Firmware, boards: Mapping[int, Board]) -> set[Mode]:
    mine = [board for board in boards.values() if board.target == build.target]
    return {mode.image for mode in Mode for board in mine if board.can(mode)}


def _modes_built(build: Firmware, builds: Mapping[int, Firmware]) -> set[Mode]:
    same = [each for each in builds.values() if (each.benchmark, each.target) == (build.benchmark, build.target)]
    return {mode for each in same for mode in each.images}


def _check_broker(mqtt: Mqtt) -> Iterator[Finding]:
    parts = urlsplit(mqtt.url)
    try:
        port_is_wrong = parts.port == 0
    except ValueError:
        port_is_wrong = True
    remedy = f'write "mqtt://127.0.0.1:1883", "mqtts://broker.example:8883" or "{EMBEDDED}"'
    if parts.scheme not in ("mqtt", "mqtts"):
        yield Finding(("mqtt", "url"), f"{mqtt.url!r} does not begin with mqtt:// or mqtts://", remedy)
    elif not parts.hostname or parts.path.strip("/") or parts.query:
        yield Finding(("mqtt", "url"), f"{mqtt.url!r} is not a host and a port", remedy)
    elif parts.username is not None:
        message = "carries a user; lab.toml is no place for passwords"
        yield Finding(("mqtt", "url"), message, "use user = ... and password_file = ...")
    elif not _is_host(parts.hostname):
        yield Finding(("mqtt", "url"), f"{parts.hostname!r} cannot be the name of a host", remedy)
    elif port_is_wrong:
        yield Finding(("mqtt", "url"), f"{mqtt.url!r} has no port between 1 and 65535", remedy)
    elif parts.scheme == "mqtt":
        for key in ("ca", "cert", "key"):
            if getattr(mqtt, key) is not None:
                yield Finding(("mqtt", key), "is not used without TLS", "use an mqtts:// url, or remove it")


def _is_host(name: str) -> bool:
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True
