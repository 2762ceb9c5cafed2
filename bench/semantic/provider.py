"""A provider that gives questions of one meaning the same answer, and says whose answer it is.

``system_fingerprint`` of an answer is a hash of the question it was made for, so a reply proves whose it is.
"""

import hashlib
import json

from aiohttp import web


class Provider:
    """Answers on loopback. What a question means is told before it is asked."""

    def __init__(self) -> None:
        self._meanings: dict[str, str] = {}
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.asked = 0

    def __repr__(self) -> str:
        return f"<Provider at {self.port}, asked {self.asked} times>"

    def means(self, scope: int, text: str, meaning: str) -> None:
        """From now on *text*, asked in *scope*, has the answer of its *meaning*."""
        self._meanings[_name(scope, text)] = meaning

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        asked = await request.json()
        text = asked["messages"][-1]["content"]
        name = _name(asked["seed"], text)
        # Words and no numbers, so that nothing but the meaning tells two answers apart.
        said = f"The answer is {spelled(self._meanings[name])}."
        body = {
            "id": f"chatcmpl-{name[:24]}",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": asked["model"],
            "system_fingerprint": name,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 120},
        }
        return web.Response(body=json.dumps(body).encode(), content_type="application/json")


def fingerprint(scope: int, text: str) -> str:
    """What the answer to *text*, asked in *scope*, says of whose it is."""
    return _name(scope, text)


def spelled(meaning: str) -> str:
    """*meaning* as letters that look like no word."""
    return "".join(chr(97 + int(digit, 16)) for digit in hashlib.sha256(meaning.encode()).hexdigest()[:12])


def _name(scope: int, text: str) -> str:
    return hashlib.sha256(f"{scope}\0{text}".encode()).hexdigest()[:32]
