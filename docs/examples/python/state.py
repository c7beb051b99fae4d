"""What a device keeps between two connections, and what it keeps between two runs."""

import random
from dataclasses import dataclass, field


@dataclass
class Pending:
    """A request with a nonce that has no answer yet: a line of the outbox."""

    request: int
    body: object
    # On which connection it was sent last; 0 for none. Sending it again is a retry.
    sent_on: int = 0


def _first_nonce() -> int:
    return random.getrandbits(62) + 1


@dataclass
class State:
    """The device's memory.

    This example keeps it in memory. An application keeps `epoch`, `cursor`, `ticket`, `next_nonce`
    and the outbox in durable storage, and writes a message there before it is sent: then neither a
    crash nor a restart can lose it or send it twice.
    """

    # Which history of the inbox the cursor belongs to; 0 before the first connection.
    epoch: int = 0
    # Everything in the inbox up to here is kept.
    cursor: int = 0
    # Spares the next connection the token. A secret.
    ticket: bytes | None = None
    # Random, so that a device that has lost its memory does not use an old nonce again.
    next_nonce: int = field(default_factory=_first_nonce)
    # By request number, in the order in which they were first sent.
    outbox: dict[int, Pending] = field(default_factory=dict)

    def new_nonce(self) -> int:
        """A nonce that this device has not used."""
        nonce = self.next_nonce
        self.next_nonce += 1
        return nonce
