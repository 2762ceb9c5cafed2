"""What the house is fitted with by its settings alone; where one cannot be followed it is named."""

import difflib
import ipaddress
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from proxy.accounts.ledger import Ledger
from proxy.accounts.pricing import Prices
from proxy.accounts.receipts import Overhead, OverheadReceipt
from proxy.accounts.till import Till
from proxy.accounts.usage import Usage
from proxy.embedders.http import HttpEmbedder
from proxy.errors import ConfigError
from proxy.prefix import rules
from proxy.prefix.rules import Rules
from proxy.providers.origin import origin
from proxy.providers.routing import DEFAULT
from proxy.providers.upstream import Upstream
from proxy.settings import Config


def tills(config: Config) -> Mapping[str, Till]:
    """A till for each provider, by its name.

    Raises:
        ConfigError: a setting of prices that the list cannot follow.
    """
    accounting = config.accounting
    any_flat = accounting.flat_rate or any(each.flat_rate for each in config.upstreams.values())
    try:
        metered = Prices(accounting.prices)
        flat = Prices(accounting.prices, marginal={}) if any_flat else metered
    except ValueError as error:
        raise ConfigError(f"accounting.{error}") from error
    whose = {DEFAULT: ("accounting", accounting.provider, accounting.flat_rate, config.upstream.url)}
    for name, each in config.upstreams.items():
        whose[name] = (f"upstreams.{name}", each.provider, each.flat_rate, each.url)
    opened: dict[str, Till] = {}
    for name, (where, provider, flat_rate, url) in whose.items():
        try:
            if provider:
                metered.check_provider(provider)
        except ValueError as error:
            raise ConfigError(f"{where}.{error}") from error
        opened[name] = Till(flat if flat_rate else metered, upstream=provider or url)
    return opened


def prefix_rules(config: Config) -> Rules:
    """The rules of the providers' prompt caches, those of the operator first.

    Raises:
        ConfigError: a rule that is none, or a setting that names none.
    """
    settings = config.prefix
    found = rules.read(Path(settings.rules_file) if settings.rules_file else None)
    if settings.provider and settings.provider not in found.names:
        close = difflib.get_close_matches(settings.provider, found.names, n=1)
        hint = f", did you mean {close[0]}?" if close else f"; known are {', '.join(found.names)}"
        raise ConfigError(f"prefix.provider: no rule of {settings.provider!r}{hint}")
    for name in settings.mode_by_upstream:
        if name != "default" and name not in config.upstreams:
            raise ConfigError(f"prefix.mode_by_upstream.{name}: no such upstream; it is default or one of upstreams")
    return found


def remote_embedder(config: Config, till: Till, ledger: Ledger) -> HttpEmbedder:
    """The endpoint that embeds. Its tokens, by *till*, lessen what *ledger* says was saved."""
    settings = config.semantic.embedder

    def spent(model: str, usage: Usage) -> None:
        cost = till.cost(model, "", usage, time.time())
        ledger.overhead(OverheadReceipt(kind=Overhead.EMBEDDING, usage=usage, cost=cost))

    provider = config.upstream
    there = replace(provider, url=settings.url or provider.url)
    key_env = settings.key_env or provider.key_env
    if origin(there.url).authority != origin(provider.url).authority:
        # What is a secret between us and the provider is nobody else's business.
        there, key_env = replace(there, add_headers={}), settings.key_env
    return HttpEmbedder(
        Upstream(there),
        target=settings.path,
        model=settings.model,
        key=os.environ.get(key_env, "").strip() if key_env else "",
        batch_texts=settings.batch_texts,
        max_waiting=settings.max_waiting,
        max_calls=settings.max_calls,
        deadline_s=settings.timeout_s,
        spent=spent,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches *host*."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def trusts(networks: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether an address lies in one of *networks*."""
    parsed = [ipaddress.ip_network(text, strict=False) for text in networks]

    def trusted(peer: str) -> bool:
        if not parsed:
            return False
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in parsed)

    return trusted
