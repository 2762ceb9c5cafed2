"""``POST /v1/cache/feedback``: somebody says whether an answer of another question was right."""

from collections.abc import Awaitable, Callable

from proxy import canonical
from proxy.call import Call, Page, Reply
from proxy.canonical import Unfit
from proxy.pages import answers

MIN_NAME_CHARS = 8
"""A shorter beginning of a key could name many."""

VERDICTS = {"right": True, "wrong": False}


def page(take: Callable[[str, bool], Awaitable[int]]) -> Page:
    """A page that hands verdicts to *take*, which tells how many answers they concern."""

    async def answer(call: Call) -> Reply:
        asked = canonical.read(call.body if isinstance(call.body, bytes) else b"")
        if isinstance(asked, Unfit):
            return answers.refused(400, "send a JSON object: key or request_id, and verdict", asked.reason)
        given = [asked[each] for each in ("request_id", "key") if each in asked]
        name = given[0] if len(given) == 1 else None
        if not isinstance(name, str) or len(name) < MIN_NAME_CHARS:
            return answers.refused(
                400,
                "name the answer: `request_id` (its x-cache-request-id) or `key` (its x-cache-key), one of them",
                "no_answer_named",
            )
        right = VERDICTS.get(str(asked.get("verdict")))
        if right is None:
            return answers.refused(400, "`verdict` is right or wrong", "no_verdict")
        concerned = await take(name.lower(), right)
        if not concerned:
            return answers.refused(404, "no such answer was given of late, and no question has that key", "not_found")
        return answers.shown({"verdict": asked["verdict"], "concerned": concerned})

    return answer
