"""``/stats?window=&by=``: what was counted in a span of time, by all processes, as JSON."""

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

import proxy
from proxy.accounts import money
from proxy.accounts.books import Axis, Books, Line
from proxy.accounts.chronicle import Chronicle, Span
from proxy.accounts.ledger import iso
from proxy.accounts.periods import Window
from proxy.call import Call, Page, Reply
from proxy.errors import CacheError
from proxy.pages import answers

BY_DAY = "day"
WAYS = (*(str(axis) for axis in Axis), BY_DAY)
"""What ``by`` may be."""

OF_CLIENTS = frozenset({str(Axis.CLIENT), str(Axis.TEAM)})
"""What tells who asked, and is therefore the operator's alone."""


def page(chronicle: Chronicle, *, plain: Page, refusal: Callable[[Call], Reply | None], prices_as_of: str) -> Page:
    """*plain*, unless the query names a window or a way to tell calls apart. *refusal*: why a call is no operator's."""

    async def answer(call: Call) -> Reply:
        query = dict(parse_qsl(call.target.partition(b"?")[2].decode("latin-1"), keep_blank_values=True))
        if not query.keys() & {"window", "by"}:
            return await plain(call)
        window, by = query.get("window", Window.ALL), query.get("by")
        if window not in set(Window):
            return answers.refused(400, f"window must be one of {', '.join(Window)}", "bad_query")
        if by is not None and by not in WAYS:
            return answers.refused(400, f"by must be one of {', '.join(WAYS)}", "bad_query")
        if by in OF_CLIENTS and (refused := refusal(call)) is not None:
            return refused
        try:
            span = await chronicle.read(Window(window))
        except CacheError:
            return answers.refused(503, "the store cannot tell what was counted; try again", "cache_fault")
        return answers.shown(shown(span, window=Window(window), by=by, prices_as_of=prices_as_of))

    return answer


def shown(span: Span, *, window: Window, by: str | None, prices_as_of: str) -> Mapping[str, object]:
    """*span* as JSON."""
    return {
        "version": proxy.__version__,
        "window": window,
        "by": by,
        "since": iso(span.start),
        "until": iso(span.end),
        "step_s": span.step_s,
        **span.whole.shown(prices_as_of),
        "opportunity": span.whole.opportunity(),
        "groups": _groups(span, by, prices_as_of),
        "series": [_step(at, books.total) for at, books in _told(span, window).items()],
    }


def _groups(span: Span, by: str | None, prices_as_of: str) -> Mapping[str, object]:
    if by is None:
        return {}
    if by == BY_DAY:
        return {iso(day)[:10]: books.total.shown(prices_as_of) for day, books in span.days.items()}
    return span.whole.shown_lines(Axis(by), prices_as_of)


def _told(span: Span, window: Window) -> Mapping[int, Books]:
    """Every step, but of everything only those since something was counted."""
    if window is not Window.ALL:
        return span.steps
    first = min(span.days, default=span.end)
    return {at: books for at, books in span.steps.items() if at >= first}


def _step(at: int, total: Line) -> dict[str, object]:
    spent, saved = total.spent.measured, total.saved.measured
    return {
        "at": iso(at),
        **total.outcomes.shown(),
        "spent": {"tokens": spent.total, "usd": money.text(spent.usd)},
        "saved": {"tokens": saved.total, "usd": money.text(saved.usd)},
    }
