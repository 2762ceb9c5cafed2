"""``POST /_askonce/explain``: why two requests share an answer or do not; and the same as lines of text."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from proxy import canonical
from proxy.call import Call, Page, Reply
from proxy.canonical import Unfit
from proxy.model import Json
from proxy.pages import answers

Explain = Callable[[Json, Json, str], Awaitable[Mapping[str, object]]]

Nearest = Callable[[Json, str, Mapping[str, str]], Awaitable[Mapping[str, object]]]
"""The same for one request with its header fields, and what is known."""

WANTED = "`asked` and perhaps `cached` (request bodies), `path` (a text), `headers` (of `asked`, texts by name)"

CHAT = "/v1/chat/completions"


def page(explain: Explain, nearest: Nearest) -> Page:
    """A page that explains two requests, or one and what is kept."""

    async def answer(call: Call) -> Reply:
        told = canonical.read(call.body if isinstance(call.body, bytes) else b"")
        if isinstance(told, Unfit):
            return answers.refused(400, f"send a JSON object: {WANTED}", told.reason)
        asked, cached, path = told.get("asked"), told.get("cached"), told.get("path", CHAT)
        fields = told.get("headers", {})
        if (
            not isinstance(asked, dict)
            or not isinstance(cached, dict | None)
            or not isinstance(path, str)
            or not isinstance(fields, dict)
            or not all(isinstance(each, str) and each.isprintable() for each in fields.values())
        ):
            return answers.refused(400, WANTED, "no_requests")
        return answers.shown(await (nearest(asked, path, fields) if cached is None else explain(asked, cached, path)))

    return answer


def rendered(shown: Mapping[str, Any]) -> str:
    """The explanation as lines for a terminal."""
    lines = [f"{'served' if shown['served'] else 'not served'}: {shown['why']}", ""]
    for name, each in zip(("asked", "cached"), shown.get("questions", ()), strict=False):
        state = f"stays out ({each['apart']})" if each["apart"] else "may be compared"
        text = "no plain user turn at the end" if each["text"] is None else f"{each['text']!r}: {state}"
        lines.append(f"{name + ':':10} {text}")
    for each in shown.get("differences", ()):
        where = each["place"] if each["counts"] else f"{each['place']} (left out of the key)"
        lines.append(f"differs:   {where}: {each['asked'] or '(absent)'} / {each['cached'] or '(absent)'}")
    if "scope" in shown:
        by = ", ".join(shown["scope"]["separated_by"])
        lines.append(f"scope:     {'the same' if shown['scope']['same'] else f'separated by {by}'}")
    for each in shown.get("neighbours", ()):
        lines += ["", f"nearest:   {each['text']!r}: {'served' if each['served'] else 'not served'}: {each['why']}"]
        lines += _compared(each)
    if "cosine" in shown:
        lines += _compared(shown)
    return "\n".join(lines) + "\n"


def _compared(shown: Mapping[str, Any]) -> list[str]:
    lines = []
    lines.append(f"cosine:    {shown['cosine']:.4f} (floor {shown['floor']:g})")
    for each in shown["guards"]:
        veto = " (veto)" if each["veto"] else ""
        lines.append(f"guard:     {each['guard']}{veto}: {each['asked']!r} / {each['cached']!r}")
    if not shown["guards"]:
        lines.append("guard:     none fired")
    lines.append(f"score:     {shown['score']:.4f} (by {shown['stage']})")
    lines.append(f"bar:       {_bar(shown['bar'], shown['class'])}")
    return lines


def _bar(bar: Mapping[str, Any], kind: str) -> str:
    if bar["threshold"] is not None:
        return f"a cosine of {bar['threshold']:.4f}"
    for each in bar["classes"]:
        if each["class"] == kind:
            if each["threshold"] is None:
                return f"nothing is served in the class {kind} yet"
            bound = f"from there on at most {each['bound'] * 100:.2f} % of hits are wrong"
            return f"a score of {each['threshold']:.4f} in the class {kind}; {bound}"
    return "none"
