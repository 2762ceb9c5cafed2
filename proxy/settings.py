"""Every setting with its default and its bounds: one frozen tree, handed down in pieces."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RATES = (
    "input",
    "output",
    "cached",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "cached_audio",
    "audio_output",
    "requests",
)
"""What a price is made of; a test holds it against the price list's own names."""

ENDPOINTS = ("/chat/completions", "/completions", "/responses", "/embeddings", "/messages")
"""What a cached path may speak."""

SERVER_TOOLS = (
    "web_search",
    "web_fetch",
    "browser_search",
    "file_search",
    "retrieval",
    "code_interpreter",
    "code_execution",
    "programmatic_tool_calling",
    "computer",
    "shell",
    "local_shell",
    "mcp",
    "image_generation",
)
"""Families of tools that a provider runs on its own side."""

FIELD_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
"""RFC 9110 section 5.6.2."""


def setting(
    default: Any,  # noqa: ANN401  (dataclasses.field is typed the same way)
    *,
    least: float | None = None,
    choices: Iterable[str] = (),
    pattern: str = "",
    secret: bool = False,
    rates: Iterable[str] = (),
) -> Any:  # noqa: ANN401
    """A field with the bounds that its value is checked against."""
    metadata = {"least": least, "choices": tuple(choices), "pattern": pattern, "secret": secret, "rates": tuple(rates)}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """The provider."""

    url: str = setting("https://api.openai.com")
    ca_file: str = ""
    connect_timeout_s: float = setting(10.0, least=0.01)
    silence_timeout_s: float = setting(3600.0, least=600)
    proxy_url: str = setting("", secret=True)
    add_headers: Mapping[str, str] = setting({}, secret=True)
    keepalive_s: float = setting(20.0, least=0)
    max_idle_connections: int = setting(256, least=0)
    replicas: tuple[str, ...] = ()
    routing: str = setting("prefix", choices=("prefix", "affinity", "round_robin"))
    replica_tokens: int = setting(131072, least=1024)
    key_env: str = "OPENAI_API_KEY"
    key_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedUpstreamSettings(UpstreamSettings):
    """One more provider, and which calls go to it instead of to the default one."""

    url: str = ""
    key_env: str = ""
    prefix: str = ""
    paths: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    cache: bool = True
    more_paths: Mapping[str, str] = setting({}, choices=ENDPOINTS)
    provider: str = ""
    flat_rate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The side that clients connect to."""

    host: str = "127.0.0.1"
    port: int = setting(8080, least=0)
    workers: int = setting(1, least=1)
    drain_s: float = setting(120.0, least=0)
    keepalive_s: float = setting(3600.0, least=1)
    half_close_grace_s: float = setting(0.5, least=0.05)
    stall_timeout_s: float = setting(3600.0, least=600)
    max_header_bytes: int = setting(65536, least=1024)
    max_header_fields: int = setting(512, least=16)
    trusted_proxies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """Whose key goes to the provider, and who may ask with it."""

    mode: str = setting("passthrough", choices=("passthrough", "shared"))
    file: str = "askonce-keys.json"
    anonymous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """What may be answered from the cache, and what may be kept."""

    enabled: bool = True
    when: str = setting("temperature_zero", choices=("temperature_zero", "seeded", "always"))
    when_by_model: Mapping[str, str] = setting({}, choices=("temperature_zero", "seeded", "always"))
    share: str = setting("auto", pattern=f"auto|credential|everyone|header:{FIELD_NAME}")
    secret: str = setting("", secret=True)
    ttl_s: float = setting(3600.0, least=0)
    ttl_by_model: Mapping[str, float] = setting({}, least=0)
    stale_if_error_s: float = setting(0.0, least=0)
    stale_while_revalidate_s: float = setting(0.0, least=0)
    max_body_bytes: int = setting(8 * 1024 * 1024, least=1)
    max_entry_bytes: int = setting(8 * 1024 * 1024, least=1)
    finish_abandoned: bool = False
    keep_cut_at_length: bool = False
    keep_cut_by_filter: bool = False
    respect_no_store: bool = False
    key_headers: tuple[str, ...] = ()
    server_tools: tuple[str, ...] = setting((), choices=SERVER_TOOLS)
    more_paths: Mapping[str, str] = setting({}, choices=ENDPOINTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """How a recorded answer is given again."""

    pace: str = setting("burst", choices=("burst", "recorded"))
    fresh_ids: bool = False
    drop_rate_limits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where entries live."""

    kind: str = setting("memory", choices=("memory", "sqlite", "redis"))
    max_bytes: int = setting(256 * 1024 * 1024, least=4096)
    eviction: str = setting("gdsf", choices=("gdsf", "lru"))
    path: str = "askonce.db"
    url: str = setting("", secret=True)
    prefix: str = setting("askonce:", pattern=r"[!-~]+")
    max_connections: int = setting(32, least=2)
    deadline_ms: float = setting(50.0, least=1)
    local_max_bytes: int = setting(64 * 1024 * 1024, least=4096)
    local_ttl_s: float = setting(10.0, least=0)
    compress_from_bytes: int = setting(1024, least=0)
    encryption_keys: tuple[str, ...] = setting((), secret=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderSettings:
    """What turns questions into vectors."""

    kind: str = setting("local", choices=("local", "http"))
    model_dir: str = ""
    threads: int = setting(1, least=1)
    max_waiting: int = setting(64, least=1)
    url: str = ""
    path: str = setting("/v1/embeddings", pattern=r"/[!-~]*")
    model: str = "text-embedding-3-small"
    key_env: str = ""
    batch_texts: int = setting(64, least=1)
    max_calls: int = setting(4, least=1)
    timeout_s: float = setting(2.0, least=0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticSettings:
    """Answers of other questions with the same meaning."""

    policy: str = setting("verified", choices=("off", "shadow", "fixed", "adaptive", "verified"))
    max_error_rate: float = setting(0.02, least=0)
    threshold: float = setting(0.95, least=0)
    min_threshold: float = setting(0.90, least=0)
    max_threshold: float = setting(0.99, least=0)
    threshold_step: float = setting(0.01, least=0)
    max_chars: int = setting(500, least=1)
    allow_fresh: bool = False
    allow_personal: bool = False
    deadline_s: float = setting(0.15, least=0.001)
    max_bytes: int = setting(256 * 1024 * 1024, least=65536)
    parallel: bool = False
    refused_by: tuple[str, ...] = ()
    backend: str = setting("auto", choices=("auto", "numpy", "onnxruntime"))
    embedder: EmbedderSettings = EmbedderSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightSettings:
    """Fetches that several readers share."""

    max_lead_bytes: int = setting(1024 * 1024, least=1024)
    max_lag_bytes: int = setting(16 * 1024 * 1024, least=1024)
    lease_wait_s: float = setting(30.0, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireSettings:
    """The short way for requests whose very octets were answered before."""

    enabled: bool = True
    max_bytes: int = setting(32 * 1024 * 1024, least=65536)


PREFIX_MODES = ("off", "observe", "advise", "act")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixSettings:
    """The provider's own prompt cache."""

    mode: str = setting("observe", choices=PREFIX_MODES)
    mode_by_upstream: Mapping[str, str] = setting({}, choices=PREFIX_MODES)
    mode_by_model: Mapping[str, str] = setting({}, choices=PREFIX_MODES)
    mode_by_client: Mapping[str, str] = setting({}, choices=PREFIX_MODES)
    provider: str = ""
    rules_file: str = ""
    diagnose: bool = True
    max_prefixes: int = setting(100_000, least=1000)
    hold_out: float = setting(0.05, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountingSettings:
    """Whose prices hold, and what a repeat saves."""

    provider: str = ""
    prices: Mapping[str, Mapping[str, float]] = setting({}, rates=RATES)
    flat_rate: bool = False
    request_stream_usage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """The counters behind /stats."""

    max_models: int = setting(200, least=1)
    max_opportunities: int = setting(65536, least=1)
    max_requests: int = setting(1000, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPathSettings:
    """Short names of the proxy's own pages; one that is off is forwarded like any other path."""

    healthz: bool = True
    health: bool = True
    stats: bool = True
    metrics: bool = True
    guide: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """Who may see more than sums, and change something."""

    token: str = setting("", secret=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompatSettings:
    """What apps say that were written for another gateway."""

    gateway_headers: bool = True
    litellm_cache_field: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written to standard error; never a prompt, an answer or a key."""

    level: str = setting("info", choices=("debug", "info", "warning", "error"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting with its default."""

    upstream: UpstreamSettings = UpstreamSettings()
    upstreams: Mapping[str, NamedUpstreamSettings] = setting({})
    server: ServerSettings = ServerSettings()
    keys: KeySettings = KeySettings()
    cache: CacheSettings = CacheSettings()
    replay: ReplaySettings = ReplaySettings()
    store: StoreSettings = StoreSettings()
    semantic: SemanticSettings = SemanticSettings()
    flights: FlightSettings = FlightSettings()
    wire: WireSettings = WireSettings()
    prefix: PrefixSettings = PrefixSettings()
    accounting: AccountingSettings = AccountingSettings()
    ledger: LedgerSettings = LedgerSettings()
    own_paths: OwnPathSettings = OwnPathSettings()
    admin: AdminSettings = AdminSettings()
    compat: CompatSettings = CompatSettings()
    log: LogSettings = LogSettings()
    headers: str = setting("full", choices=("full", "minimal", "none"))
