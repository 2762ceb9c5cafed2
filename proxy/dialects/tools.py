"""Which tools the provider runs: an answer made with them did more than answer, or saw a world that changes."""

from collections.abc import Set as AbstractSet

from proxy.settings import SERVER_TOOLS

# The families of tools that a provider runs on its own side (or, for computers and shells, that act on a machine),
# without their dates: `web_search` stands for `web_search_preview_2025_03_11` and `web_search_20250305` as well.
SIDE_EFFECTING_TOOLS = frozenset(SERVER_TOOLS)

# Tools whose call is the answer: the client runs them, or nobody does. What stands neither here nor above is new, and
# a new tool type is far likelier to be another server tool.
CLIENT_TOOLS = frozenset({"function", "custom", "namespace", "apply_patch", "bash", "text_editor", "memory"})


def acts(tools: object, allowed: AbstractSet[str] = frozenset()) -> bool:
    """Whether a request's *tools* hold one that the provider would run and that is not of an *allowed* family."""
    if not isinstance(tools, list):
        return False
    types = (tool.get("type") for tool in tools if isinstance(tool, dict))
    return any(_acts(kind, allowed) for kind in types)


def of_family(kind: str, families: AbstractSet[str]) -> bool:
    """Whether *kind*, a type of tool or of something that a tool left in an answer, belongs to one of *families*."""
    return any(kind == family or kind.startswith(f"{family}_") for family in families)


def _acts(kind: object, allowed: AbstractSet[str]) -> bool:
    # Anthropic's own tools of the client carry no type; what is not a string, the provider refuses.
    if not isinstance(kind, str):
        return False
    return not of_family(kind, CLIENT_TOOLS | allowed)
