"""What the lab as a whole can be asked: another lab.toml, an emergency stop, and to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from sqlmodel import Session

from labd.config.changes import Difference
from labd.errors import ConflictError, RequestError
from labd.model import ledger_lab
from labd.service.access import Caller, Role
from labd.service.documents import stop_document
from labd.service.exchange import Asked, Change, Done, Verb, once
from labd.service.lab import Lab
from labd.service.lab_messages import DifferenceDocument, LabReload, LabResume, LabStop, ReloadDocument, StopReply
from labd.service.messages import Envelope, Message
from labd.service.reload import Proposal


class Reload:
    """`lab.reload`. The file is read in a thread; the writer only notes what was read, and then it is in use."""

    envelope: TypeAdapter[Any] = TypeAdapter(Envelope[LabReload])
    result: type[Message] = ReloadDocument
    role = Role.ADMIN

    async def answer(self, lab: Lab, verb: str, payload: bytes, caller: Caller) -> dict[str, Any]:
        """Read the file again and take it up, or refuse it with all that is wrong. A repeated request only recalls."""
        envelope = self.envelope.validate_json(payload)
        reloader = lab.reloader
        if reloader is None:
            raise ConflictError("this lab cannot be reloaded")
        async with reloader.turn:
            proposal: Proposal | RequestError
            try:
                proposal = await reloader.propose()
            except RequestError as error:  # told by the change, which may have been made before
                proposal = error

            def change(session: Session, asked: Asked) -> Done:
                if isinstance(proposal, RequestError):
                    raise proposal
                reloader.commit(session, proposal)
                return Done(_told(proposal).model_dump(mode="json"), lambda: reloader.adopt(proposal))

            return await once(lab, verb, envelope, change, caller)


def stop_lab(lab: Lab, session: Session, stop: LabStop, asked: Asked) -> Done:
    """Stop everything: it is written down before anything is done, so it stands over a crash."""
    event = ledger_lab.stop_lab(session, lab.config.lab.name, stop.reason, asked.at)
    return Done(StopReply(stopped=stop_document(event)).model_dump(mode="json"), lab.halt)


def resume_lab(lab: Lab, session: Session, resume: LabResume, asked: Asked) -> Done:
    """Let a stopped lab go on."""
    ledger_lab.resume_lab(session, lab.config.lab.name, asked.at)
    return Done(StopReply(stopped=None).model_dump(mode="json"), lab.go_on)


def _told(proposal: Proposal) -> ReloadDocument:
    found = proposal.changes
    return ReloadDocument(
        boards=_difference(found.boards),
        instruments=_difference(found.instruments),
        firmware=_difference(found.firmware),
        users=_difference(found.users),
        sections=found.sections,
    )


def _difference(found: Difference) -> DifferenceDocument:
    return DifferenceDocument(added=found.added, removed=found.removed, changed=found.changed)


LAB_VERBS: Mapping[str, Verb] = {
    "lab.reload": Reload(),
    "lab.stop": Change(TypeAdapter(Envelope[LabStop]), stop_lab, StopReply, Role.ADMIN),
    "lab.resume": Change(TypeAdapter(Envelope[LabResume]), resume_lab, StopReply, Role.ADMIN),
}
