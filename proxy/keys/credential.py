"""The provider's key in the place of a client's: the one goes up, the other does not."""

from dataclasses import dataclass, field

from proxy.headers import Fields
from proxy.keys.clients import CREDENTIALS, KEY_SUBPROTOCOL, SUBPROTOCOLS, presented

SECRET_BYTES = 16
"""What is shorter is no secret but a word that an SDK insists on, and may stand anywhere for another reason."""

Pairs = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Credential:
    """The provider's key; without one the provider is asked without any."""

    key: bytes | None = field(default=None, repr=False)

    def put(self, sent: Pairs) -> Pairs:
        """*sent*, the fields of a request to the provider, with this key where the client's stood.

        It keeps the name of the field in which the client's key came, for that is how this provider is asked. Every
        other field that holds the client's key is left out.
        """
        fields = Fields(tuple(sent))
        keys = [key for key in presented(fields) if len(key) >= SECRET_BYTES]
        put: Pairs = []
        named = False
        for name, (spelt, value) in zip(fields.names, sent, strict=True):
            if name in CREDENTIALS:
                if self.key is not None and not named:
                    put.append((spelt, b"Bearer " + self.key if name == b"authorization" else self.key))
                    named = True
            elif name == SUBPROTOCOLS:
                parts = value.split(b",")
                kept = [
                    part
                    for part in parts
                    if not part.strip().startswith(KEY_SUBPROTOCOL) and not any(key in part for key in keys)
                ]
                if kept:
                    put.append((spelt, b",".join(kept).strip()))
            elif not any(key in value for key in keys):
                put.append((spelt, value))
        if self.key is not None and not named:
            put.append((b"Authorization", b"Bearer " + self.key))
        return put
