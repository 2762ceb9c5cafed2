"""JSON values as text, the ways the renderers write them; a value that cannot be written becomes nothing."""

import json


def spaced(value: object) -> str:
    """Return *value* with spaces after commas and colons."""
    return _text(value, (", ", ": "), ascii_only=False)


def compact(value: object) -> str:
    """Return *value* without spaces."""
    return _text(value, (",", ":"), ascii_only=False)


def compact_ascii(value: object) -> str:
    """Return *value* without spaces, everything beyond ASCII escaped."""
    return _text(value, (",", ":"), ascii_only=True)


def parse(text: str) -> tuple[bool, object]:
    """Return whether *text* is JSON, and its value."""
    try:
        return True, json.loads(text)
    except (ValueError, RecursionError):
        return False, None


def _text(value: object, separators: tuple[str, str], *, ascii_only: bool) -> str:
    try:
        return json.dumps(value, separators=separators, ensure_ascii=ascii_only)
    except (TypeError, ValueError, RecursionError):
        # A number of more digits than Python writes, or nesting beyond its stack.
        return ""
