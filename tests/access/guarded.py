"""A Mosquitto that lets in by password or by certificate over TLS, with rules of its own; and clients that come in."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import trustme

from labd.mqtt.endpoint import Endpoint
from tests.brokers import free_port, program
from tests.deadline import HUNG_S


class Proof(StrEnum):
    """How somebody shows who they are."""

    PASSWORD = "password"
    CERTIFICATE = "certificate"


@dataclass(frozen=True)
class Guarded:
    """A running broker that knows some people."""

    authority: trustme.CA
    ports: dict[Proof, int]

    def endpoint(self, name: str, proof: Proof) -> Endpoint:
        """The broker, as `name` comes to it."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if proof is Proof.CERTIFICATE:
            self.authority.issue_cert(f"{name}.lab.test", common_name=name).configure_cert(context)
            return Endpoint("localhost", self.ports[proof], context)
        return Endpoint("localhost", self.ports[proof], context, name, f"{name}'s secret")


@asynccontextmanager
async def guarded(folder: Path, acl: str, people: Iterable[str]) -> AsyncIterator[Guarded]:
    """A Mosquitto with these rules that lets these people in, each by both proofs."""
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "acl").write_text(acl)
    (folder / "acl").chmod(0o600)
    passwords = folder / "passwords"
    passwords.touch(mode=0o600)
    for name in people:
        words = ("-b", str(passwords), name, f"{name}'s secret")
        assert await (await asyncio.create_subprocess_exec(program("mosquitto_passwd"), *words)).wait() == 0
    ports = {proof: free_port() for proof in Proof}
    tls = f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.pem\n"
    (folder / "guarded.conf").write_text(
        ("user root\n" if os.geteuid() == 0 else "")
        + f"allow_anonymous false\npassword_file {passwords}\nacl_file {folder}/acl\nlog_type error\n"
        + f"listener {ports[Proof.PASSWORD]} 127.0.0.1\n{tls}"
        + f"listener {ports[Proof.CERTIFICATE]} 127.0.0.1\n{tls}"
        + "require_certificate true\nuse_identity_as_username true\n"
    )
    process = await asyncio.create_subprocess_exec(program("mosquitto"), "-c", str(folder / "guarded.conf"))
    try:
        for port in ports.values():
            await _listening(port)
        yield Guarded(authority, ports)
    finally:
        process.kill()
        await process.wait()


async def _listening(port: int) -> None:
    async with asyncio.timeout(HUNG_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            await writer.wait_closed()
            return
