"""What an image costs in prompt tokens, by OpenAI's published rules, from the dimensions in its own header."""

import base64
import binascii
import math
import struct
from dataclasses import dataclass

from proxy.tokens.turns import Picture

# Enough of a file to find its dimensions; a JPEG keeps them behind its thumbnails.
HEADER_BASE64_CHARACTERS = 128 * 1024


@dataclass(frozen=True, slots=True)
class Tiles:
    """Cost by 512 px tiles, after fitting into 2048 px and shrinking the short side to 768."""

    base: int
    per_tile: int


@dataclass(frozen=True, slots=True)
class Patches:
    """Cost by 32 px patches, at most `MAX_PATCHES` of them, times a factor; and a token that announces the image."""

    factor: float


MAX_PATCHES = 1536

# For an image behind an address, which is never fetched: most in recorded requests cost two tiles, as this size does.
USUAL_SIZE = (640, 480)

# First prefix that fits wins. From OpenAI's guide "Images and vision", section on costs; gpt-5-mini and -nano are
# billed less than it said.
_RULES: tuple[tuple[str, Tiles | Patches], ...] = (
    ("gpt-4o-mini", Tiles(2833, 5667)),
    ("gpt-4.1-mini", Patches(1.62)),
    ("gpt-4.1-nano", Patches(2.46)),
    ("o4-mini", Patches(1.72)),
    ("gpt-5-mini", Patches(1.2)),
    ("gpt-5-nano", Patches(1.5)),
    ("computer-use", Tiles(65, 129)),
    ("gpt-5", Tiles(70, 140)),
    ("o1", Tiles(75, 150)),
    ("o3", Tiles(75, 150)),
    ("gpt-4", Tiles(85, 170)),
    ("chatgpt-4o", Tiles(85, 170)),
)
_USUAL_RULE = Tiles(85, 170)


def picture_tokens(picture: Picture, model: str) -> tuple[int, bool]:
    """Return what *picture* costs *model*, and whether that is known: its size and the model's rule are."""
    bare = model.lower().rpartition("/")[2].removeprefix("ft:")
    rule = next((rule for prefix, rule in _RULES if bare.startswith(prefix)), None)
    if picture.detail == "low" and isinstance(rule, Tiles):
        return rule.base, True
    size = dimensions(_bytes_of(picture.url))
    known = rule is not None and size is not None
    width, height = size or USUAL_SIZE
    rule = rule or _USUAL_RULE
    return (_tiled(width, height, rule) if isinstance(rule, Tiles) else _patched(width, height, rule)), known


def dimensions(image: bytes) -> tuple[int, int] | None:
    """Return width and height from the header of a PNG, GIF, WebP or JPEG."""
    try:
        size = _dimensions(image)
    except (struct.error, IndexError):
        return None
    return size if size and min(size) > 0 else None


def _dimensions(image: bytes) -> tuple[int, int] | None:
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", image, 16)
        return width, height
    if image.startswith((b"GIF87a", b"GIF89a")):
        width, height = struct.unpack_from("<HH", image, 6)
        return width, height
    if image.startswith(b"RIFF") and image[8:12] == b"WEBP":
        return _webp(image)
    if image.startswith(b"\xff\xd8"):
        return _jpeg(image)
    return None


def _webp(image: bytes) -> tuple[int, int] | None:
    match image[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(image[24:27], "little"), 1 + int.from_bytes(image[27:30], "little")
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", image, 21)
            return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", image, 26)
            return width & 0x3FFF, height & 0x3FFF
        case _:
            return None


def _jpeg(image: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(image) and image[position] == 0xFF:
        marker = image[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack_from(">HH", image, position + 5)
            return width, height
        (length,) = struct.unpack_from(">H", image, position + 2)
        position += 2 + length
    return None


def _bytes_of(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        return b""
    data = data[:HEADER_BASE64_CHARACTERS]
    try:
        return base64.b64decode(data[: len(data) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""


def _tiled(width: int, height: int, rule: Tiles) -> int:
    shrink = min(1.0, 2048 / max(width, height))
    shrink *= min(1.0, 768 / (min(width, height) * shrink))
    tiles = math.ceil(width * shrink / 512) * math.ceil(height * shrink / 512)
    return rule.base + rule.per_tile * tiles


def _patched(width: int, height: int, rule: Patches) -> int:
    patches = math.ceil(width / 32) * math.ceil(height / 32)
    if patches > MAX_PATCHES:
        shrink = math.sqrt(32 * 32 * MAX_PATCHES / (width * height))
        across, down = width * shrink / 32, height * shrink / 32
        # Shrunk once more, so that whole patches fit in one direction.
        shrink *= min(math.floor(across) / across, math.floor(down) / down)
        patches = math.ceil(width * shrink / 32) * math.ceil(height * shrink / 32)
    return 1 + math.ceil(max(1, min(patches, MAX_PATCHES)) * rule.factor)
