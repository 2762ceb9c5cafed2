"""The command: ``askonce serve`` and ``askonce check``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

import proxy
from proxy import app, config
from proxy.config import Config
from proxy.errors import AskonceError


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
    return parser


def _settings(given: argparse.Namespace) -> Config:
    named = {"upstream.url": given.upstream, "server.host": given.host, "server.port": given.port}
    sets = [f"{path}={value}" for path, value in named.items() if value is not None]
    return config.load(file=given.config, sets=[*given.set, *sets])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0 for success, 2 for settings that are wrong, 1 for anything else."""
    given = _parser().parse_args(arguments)
    try:
        settings = _settings(given)
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
