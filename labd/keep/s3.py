"""The archive that `lab.toml` names, with credentials from where AWS's own tools look for them.

obstore knows the environment, web identities, and the roles of containers and machines; the credentials file it leaves
to its caller, so that is read here. None of it is ever in `lab.toml`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ParserError
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.store import S3Store

from labd.config import Store
from labd.errors import ConfigError
from labd.keep.archive import Archive
from labd.trace.object_files import CLIENT, FAULTS, RETRY

if TYPE_CHECKING:
    from obstore.store import S3Config


def open_archive(store: Store, environment: Mapping[str, str] = os.environ) -> Archive | None:
    """The archive of a lab; None if it has none. Nothing is asked of the store yet.

    Args:
        store: The `[store]` of `lab.toml`, checked.
        environment: Where to look for `AWS_SHARED_CREDENTIALS_FILE`, `AWS_PROFILE` and the like.

    Raises:
        ConfigError: the credentials file cannot be read, or obstore refuses what is configured.
    """
    if store.archive_url is None:
        return None
    where = store.archive_url.rstrip("/")
    parts = urlsplit(where)
    config: S3Config = {**credentials(environment)}
    if store.endpoint is not None:
        config["endpoint"] = store.endpoint
    if store.region is not None:
        config["region"] = store.region
    try:
        bucket = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            config=config,
            client_options={**CLIENT, "allow_http": store.allow_http},
            retry_config=RETRY,
        )
    except FAULTS as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{where} cannot be used: {reason}", where="store.archive_url") from error
    return Archive(bucket, where)


def credentials(environment: Mapping[str, str]) -> S3Config:
    """What the credentials file holds, in obstore's words; empty if the environment says it, or there is no file.

    The file is `AWS_SHARED_CREDENTIALS_FILE` or `~/.aws/credentials`, the profile `AWS_PROFILE` or `default` (AWS SDKs
    and Tools Reference Guide, "Shared config and credentials files").

    Raises:
        ConfigError: the file or the profile that the environment names is not there, or cannot be read.
    """
    if "AWS_ACCESS_KEY_ID" in environment:
        return {}
    named = environment.get("AWS_SHARED_CREDENTIALS_FILE")
    path = Path(named) if named else Path(environment.get("HOME", "/nonexistent")) / ".aws" / "credentials"
    profile = environment.get("AWS_PROFILE", "default")
    parser = ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if named is None:
            return {}
        raise ConfigError("there is no such credentials file", where=str(path)) from None
    except OSError as error:
        raise ConfigError(f"the credentials cannot be read: {error.strerror}", where=str(path)) from error
    except (ParserError, UnicodeDecodeError):
        # its own words repeat the line, and the line may hold the secret
        raise ConfigError("is not a credentials file", where=str(path), remedy="see `aws configure`") from None
    if not parser.has_section(profile):
        if named is None and "AWS_PROFILE" not in environment:
            return {}
        raise ConfigError(f"has no profile {profile!r}", where=str(path), remedy="set AWS_PROFILE to one that it has")
    section = parser[profile]
    found: S3Config = {}
    if "aws_access_key_id" in section:
        found["access_key_id"] = section["aws_access_key_id"]
    if "aws_secret_access_key" in section:
        found["secret_access_key"] = section["aws_secret_access_key"]
    if "aws_session_token" in section:
        found["session_token"] = section["aws_session_token"]
    return found
