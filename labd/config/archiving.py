"""Whether what `[store]` says of the archive makes sense; nothing is asked of any server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from labd.config.findings import Finding
from labd.config.models import Store

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._=-]*)*/?")
_SECRETS = "use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or a credentials file"


def check_archive(store: Store) -> Iterator[Finding]:
    """The archive is a bucket, its endpoint a server, and neither carries credentials."""
    if store.archive_url is not None:
        yield from _check_url(store.archive_url)
    else:
        for key in ("endpoint", "region", "allow_http", "keep_local"):
            if key in store.model_fields_set:
                yield Finding(("store", key), "is not used without archive_url", "add archive_url, or remove it")
    if store.endpoint is not None:
        yield from _check_endpoint(store.endpoint, store.allow_http)


def warn_archive(store: Store) -> Iterator[Finding]:
    """Who sends traces unencrypted over a network should know."""
    if store.archive_url is None or store.endpoint is None or not store.endpoint.startswith("http:"):
        return
    host = urlsplit(store.endpoint).hostname or ""
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        message = f"traces go to {host} unencrypted"
        yield Finding(("store", "endpoint"), message, "use https:// where the network is not yours alone")


def _check_url(url: str) -> Iterator[Finding]:
    path, remedy = ("store", "archive_url"), 'write "s3://bucket/prefix"'
    parts = urlsplit(url)
    if "@" in parts.netloc:
        yield Finding(path, "carries credentials; lab.toml is no place for them", _SECRETS)
    elif parts.scheme != "s3":
        yield Finding(path, f"{url.partition('?')[0]!r} does not begin with s3://", remedy)
    elif parts.query or parts.fragment:
        yield Finding(path, "has more than a bucket and a prefix", remedy)
    elif not _BUCKET.fullmatch(parts.netloc):
        message = f"{parts.netloc!r} cannot be the name of a bucket"
        yield Finding(path, message, "use 3 to 63 lower-case letters, digits, dots and dashes")
    elif not _PREFIX.fullmatch(parts.path):
        message = f"{parts.path!r} cannot be a prefix"
        yield Finding(path, message, "use letters, digits, dots, dashes and underscores between single slashes")


def _check_endpoint(endpoint: str, allow_http: bool) -> Iterator[Finding]:
    path, remedy = ("store", "endpoint"), 'write "https://host:port"'
    parts = urlsplit(endpoint)
    try:
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if "@" in parts.netloc:
        yield Finding(path, "carries credentials; lab.toml is no place for them", _SECRETS)
    elif parts.scheme not in ("http", "https") or not has_host or parts.query or parts.fragment:
        yield Finding(path, f"{endpoint.partition('?')[0]!r} is not the address of a server", remedy)
    elif parts.scheme == "http" and not allow_http:
        yield Finding(path, "is not encrypted", "use https://, or add allow_http = true")
