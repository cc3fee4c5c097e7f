"""What a scoped key is, and how it is kept.

A key is 256 random bits behind a prefix, and is kept as its SHA-256. A slow hash protects passwords,
because the likely ones are few enough to try out. 2^256 keys are not, and a slow check would only help
clients to keep the service busy.
"""

import secrets
from dataclasses import dataclass
from hashlib import sha256

from chat_stats.service.catalogue.scopes import Scope

#: By it a scoped key is told from all others, also by tools that look for secrets in files.
PREFIX = "csk_"
_PREFIX = PREFIX.encode()
_RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True)
class ScopedKey:
    name: str
    #: SHA-256 of the key.
    hash: bytes
    #: None: it cannot be applied, for this reason.
    scope: Scope | None
    trouble: str | None = None


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def hash_of(key: bytes) -> bytes:
    return sha256(key).digest()


def looks_scoped(key: bytes) -> bool:
    """Return whether this may be a scoped key, known or not."""
    return key.startswith(_PREFIX)
