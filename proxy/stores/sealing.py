"""Encryption at rest: AES-256-GCM under keys that have names, so that they can be changed one after the other."""

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping

from proxy.errors import ConfigError, Unreadable

KEY_BYTES = 32

NONCE_BYTES = 12
"""Random: 2^32 entries under one key keep the chance of a repetition below 2^-32 (NIST SP 800-38D section 8.3)."""

MAX_NAME_BYTES = 32


class Seal:
    """Seals with the newest key, opens with every key that is known."""

    def __init__(self, keys: Mapping[bytes, bytes]) -> None:
        """*keys* by name, the newest first."""
        # Only who seals needs the package.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._invalid = InvalidTag
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._newest = next(iter(keys))

    def __repr__(self) -> str:
        return f"<Seal with {self._newest.decode()}, opens {len(self._ciphers)} keys>"

    def close(self, plain: bytes, *, about: bytes) -> bytes:
        """*plain* sealed: it opens only with the same *about*."""
        name, nonce = self._newest, secrets.token_bytes(NONCE_BYTES)
        return bytes((len(name),)) + name + nonce + self._ciphers[name].encrypt(nonce, plain, about)

    def open(self, sealed: bytes, *, about: bytes) -> bytes:
        """What was sealed.

        Raises:
            Unreadable: it is damaged or stands where it was not put, or its key is not known any more.
        """
        at = 1 + sealed[0] if sealed else 1
        cipher = self._ciphers.get(sealed[1:at])
        if cipher is None:
            raise Unreadable("an entry is sealed with a key that store.encryption_keys does not name")
        nonce = sealed[at : at + NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[at + NONCE_BYTES :], about)
        except (self._invalid, ValueError) as error:
            raise Unreadable("a sealed entry is damaged or was moved") from error


def seal_of(keys: Iterable[str]) -> Seal | None:
    """The seal for ``name:base64`` keys, the newest first; None where there are none.

    Raises:
        ConfigError: a key that is none, told without a word of the key; or the package that seals is missing.
    """
    read: dict[bytes, bytes] = {}
    for number, text in enumerate(keys):
        where = f"store.encryption_keys[{number}]"
        name, colon, coded = text.strip().partition(":")
        try:
            key = base64.b64decode(coded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not colon or not name.isascii() or not name.isalnum() or len(name) > MAX_NAME_BYTES:
            raise ConfigError(f"{where}: write it as name:key, the name of letters and digits")
        if len(key) != KEY_BYTES:
            raise ConfigError(f"{where}: expected {KEY_BYTES} bytes in base64; `openssl rand -base64 32` makes a key")
        if name.encode() in read:
            raise ConfigError(f"{where}: another key is called {name}, too")
        read[name.encode()] = key
    if not read:
        return None
    try:
        return Seal(read)
    except ImportError as error:
        raise ConfigError(
            "store.encryption_keys: needs the package cryptography: pip install askonce[encryption]"
        ) from error
