"""``/stats`` and ``/healthz`` as JSON."""

import json
from collections.abc import Callable, Mapping

from proxy.call import Call, Reply

Shown = Callable[[], Mapping[str, object]]


def page(shown: Shown) -> Callable[[Call], Reply]:
    """A page that shows, as JSON, what *shown* says at the moment of asking."""

    def answer(_: Call) -> Reply:
        body = json.dumps(shown(), indent=2).encode() + b"\n"
        head = b"Content-Type: application/json\r\nContent-Length: %d\r\nCache-Control: no-store\r\n" % len(body)
        return Reply(status=200, phrase=b"OK", head=head, body=body, sized=True)

    return answer
