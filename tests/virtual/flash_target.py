"""A board as its debug probe sees it, in memory."""

from __future__ import annotations


class FlashBoard:
    """Holds flash and supply; `running` is the image that it was last reset into."""

    def __init__(self) -> None:
        self.supplied = True
        self.flash = b""
        self.running: bytes | None = None
        self.resets = 0

    def powered(self) -> bool:
        return self.supplied

    def flash_read(self) -> bytes:
        return self.flash

    def flash_write(self, image: bytes) -> None:
        self.flash = image

    def reset(self) -> None:
        self.resets += 1
        self.running = self.flash
