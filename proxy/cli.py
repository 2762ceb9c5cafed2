"""The command: ``askonce serve``, ``check``, ``tokens``, ``stats`` and ``advise``."""

import argparse
import json
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from http.client import HTTPException
from pathlib import Path
from typing import Any

import yaml

import proxy
from proxy import app, config, storage
from proxy.errors import AskonceError
from proxy.pages import advised, table
from proxy.settings import Config
from proxy.tokens.counter import TokenCounter
from proxy.tokens.lines import count_line

STATS_TIMEOUT_S = 10

MAX_STATS_BYTES = 64 * 1024 * 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="askonce", description=proxy.__doc__)
    parser.add_argument("--version", action="version", version=f"askonce {proxy.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, told in (("serve", "run the proxy"), ("check", "validate the settings and print them, secrets masked")):
        command = commands.add_parser(name, help=told, description=told)
        command.add_argument(
            "--upstream", metavar="URL", help="the provider's origin, with or without /v1 (upstream.url)"
        )
        command.add_argument("--host", help="address to listen on (server.host)")
        command.add_argument("--port", help="port to listen on, 0 for any (server.port)")
        command.add_argument("--config", type=Path, metavar="FILE", help="settings in YAML; see config.example.yaml")
        command.add_argument("--set", action="append", default=[], metavar="a.b=value", help="one setting; repeatable")
    told = "count the prompt tokens of requests, one of JSON a line; a line of JSON comes out for each"
    tokens = commands.add_parser("tokens", help=told, description=told)
    tokens.add_argument("file", nargs="?", type=Path, metavar="FILE.jsonl", help="standard input where there is none")
    for name, told in (
        ("stats", "show what a running proxy counted, as a table"),
        ("advise", "say what keeps the provider's prompt cache from hitting, what that costs, and how to mend it"),
    ):
        page = commands.add_parser(name, help=told, description=told)
        page.add_argument("url", nargs="?", default="http://127.0.0.1:8080", metavar="URL", help="default: %(default)s")
    return parser


def _settings(given: argparse.Namespace) -> Config:
    named = {"upstream.url": given.upstream, "server.host": given.host, "server.port": given.port}
    sets = [f"{path}={value}" for path, value in named.items() if value is not None]
    return config.load(file=given.config, sets=[*given.set, *sets])


def _tokens(file: Path | None) -> int:
    counter = TokenCounter()
    try:
        with nullcontext(sys.stdin) if file is None else file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.strip():
                    print(count_line(line, counter), flush=file is None)
    except BrokenPipeError:
        # Whoever read has seen enough; nothing may be flushed into the closed pipe at exit.
        sys.stdout = None
        return 0
    except OSError as error:
        print(f"askonce: {file}: cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _stats(url: str, rendered: Callable[[Mapping[str, Any]], str]) -> int:
    origin = url if "://" in url else f"http://{url}"
    if not origin.startswith(("http://", "https://")):
        print(f"askonce: {url}: expected a URL like http://127.0.0.1:8080", file=sys.stderr)
        return 2
    page = origin.rstrip("/").removesuffix("/stats").removesuffix("/_askonce") + "/_askonce/stats"
    # The proxy is asked straight: HTTP_PROXY and its like are for the world outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(page, timeout=STATS_TIMEOUT_S) as answer:
            shown = json.loads(answer.read(MAX_STATS_BYTES))
        print(rendered(shown), end="")
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        print(f"askonce: {page}: {reason}; is a proxy listening there?", file=sys.stderr)
        return 1
    except (ValueError, KeyError, TypeError):
        print(f"askonce: {page}: what answers there is no askonce of this version", file=sys.stderr)
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0 for success, 2 for settings that are wrong, 1 for anything else."""
    given = _parser().parse_args(arguments)
    if given.command == "tokens":
        return _tokens(given.file)
    if given.command in ("stats", "advise"):
        return _stats(given.url, table.rendered if given.command == "stats" else advised.rendered)
    try:
        settings = _settings(given)
        app.tills(settings)
        storage.storage(settings.store)
    except AskonceError as error:
        print(f"askonce: {error}", file=sys.stderr)
        return 2
    if given.command == "check":
        print(yaml.safe_dump(config.effective(settings), sort_keys=False, default_flow_style=False), end="")
        return 0
    try:
        app.serve(settings)
    except AskonceError as error:
        print(f"askonce: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
