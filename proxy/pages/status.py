"""``/stats``, ``/healthz`` and the list of requests as JSON."""

from collections.abc import Callable, Mapping

from proxy.call import Call, Page, Reply
from proxy.pages import answers

Shown = Callable[[], Mapping[str, object]]


def page(shown: Shown) -> Page:
    """A page that shows, as JSON, what *shown* says at the moment of asking."""

    async def answer(_: Call) -> Reply:
        return answers.shown(shown())

    return answer
