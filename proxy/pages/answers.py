"""What a page answers with: JSON that nobody may cache, or an error in the shape that clients know."""

import json

from proxy import labels
from proxy.call import Reply


def shown(value: object, *, status: int = 200) -> Reply:
    """*value* as JSON."""
    return text(json.dumps(value, indent=2).encode() + b"\n", b"application/json", status=status)


def text(body: bytes, content_type: bytes, *, status: int = 200) -> Reply:
    """*body* as it is."""
    head = b"Content-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\n" % (content_type, len(body))
    return Reply(status=status, phrase=labels.PHRASES[status], head=head, body=body, sized=True)


def passed_on(body: bytes, *, status: int, phrase: bytes) -> Reply:
    """What somebody else said, as JSON."""
    head = b"Content-Type: application/json\r\nContent-Length: %d\r\nCache-Control: no-store\r\n" % len(body)
    return Reply(status=status, phrase=phrase, head=head, body=body, sized=True)


def refused(status: int, message: str, code: str) -> Reply:
    """Why the page is not shown or nothing was done, and what to do about it."""
    return text(labels.error_body(message, code), b"application/json", status=status)
