"""A llama with random weights, small enough to be written in a second, that still ends its sentences.

Nothing is learned: which word comes is up to the random weights, and so depends on the whole prompt. One
thing is laid into them: every word carries its place in the answer and what comes after it, down to the
end-of-text token. Without it the model would talk until `max_tokens`, and an answer that was cut off is
rightly never kept.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

NAME = "tiny-random"
CONTEXT_TOKENS = 4096

type_of = gguf.TokenType
Matrix = npt.NDArray[np.float32]

# Places are written as two one-hot digits in base 16, so that 32 of the dimensions tell 256 places apart
# and fill one block of the quantised matrices.
BASE = 16
PLACE_DIMENSIONS = 2 * BASE

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "kl", "pl", "st", "tr")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ou")
CONTROLS = ("<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
END_OF_TEXT = 1 + CONTROLS.index("</s>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the bytes of the model; another recipe is another file."""

    version: int = 1
    seed: int = 20250101
    width: int = 512
    heads: int = 8
    layers: int = 10
    hidden: int = 1024
    shortest_answer: int = 64
    longest_answer: int = 128
    words_per_place: int = 12
    sentence: int = 9
    ending_share: float = 0.06


@dataclass(frozen=True, slots=True)
class Token:
    """One entry of the vocabulary: where in an answer it stands, if anywhere, and which place comes next."""

    text: str
    kind: gguf.TokenType
    place: int | None
    following: int


def ready_model(folder: Path, recipe: Recipe | None = None) -> Path:
    """The model's file in *folder*: the one that lies there if its hash is right, else a new one."""
    chosen = recipe or Recipe()
    version = hashlib.sha256(f"{chosen} {np.__version__}".encode()).hexdigest()[:12]
    path = folder / f"{NAME}-{version}.gguf"
    note = path.with_suffix(".gguf.sha256")
    if path.is_file() and note.is_file() and note.read_text().strip() == _digest(path):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    # Two may write at once: each its own file, put in place whole. The bytes are the same anyway.
    handle, written = tempfile.mkstemp(dir=folder, suffix=".part")
    os.close(handle)
    try:
        write(Path(written), chosen)
        note.write_text(_digest(Path(written)))
        os.replace(written, path)
    finally:
        Path(written).unlink(missing_ok=True)
    return path


def vocabulary(recipe: Recipe, dice: np.random.Generator) -> list[Token]:
    """Controls, the 256 bytes any prompt can be spelled with, and invented words for every place."""
    tokens = [Token("<unk>", type_of.UNKNOWN, None, 0)]
    tokens += [Token(text, type_of.CONTROL, None, 0) for text in CONTROLS]
    tokens += [Token(f"<0x{byte:02X}>", type_of.BYTE, None, 0) for byte in range(256)]
    taken: set[str] = set()
    for place in range(recipe.longest_answer):
        for _ in range(recipe.words_per_place):
            word = _new_word(taken, dice)
            last = place == recipe.longest_answer - 1
            ends = last or (place >= recipe.shortest_answer and dice.random() < recipe.ending_share)
            if place % recipe.sentence == 0:
                word = word.capitalize()
            if ends or place % recipe.sentence == recipe.sentence - 1:
                word += "."
            tokens.append(Token(f"▁{word}", type_of.NORMAL, place, recipe.longest_answer if ends else place + 1))
    return tokens


def write(path: Path, recipe: Recipe) -> None:
    """Write the model to *path*."""
    dice = np.random.default_rng(recipe.seed)
    tokens = vocabulary(recipe, dice)
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, recipe, tokens)
    _add_words(writer, recipe, tokens, dice)
    for layer in range(recipe.layers):
        _add_layer(writer, recipe, layer, dice)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, recipe: Recipe, tokens: list[Token]) -> None:
    writer.add_name(NAME)
    writer.add_description("random weights: the words are nonsense, the protocol is real")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(recipe.width)
    writer.add_block_count(recipe.layers)
    writer.add_feed_forward_length(recipe.hidden)
    writer.add_head_count(recipe.heads)
    writer.add_head_count_kv(recipe.heads)
    writer.add_rope_dimension_count(recipe.width // recipe.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_TQ1_0)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token.text for token in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([token.kind for token in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1 + CONTROLS.index("<s>"))
    writer.add_eos_token_id(END_OF_TEXT)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_words(writer: gguf.GGUFWriter, recipe: Recipe, tokens: list[Token], dice: np.random.Generator) -> None:
    free = recipe.width - PLACE_DIMENSIONS
    reading = np.zeros((len(tokens), recipe.width), np.float32)
    saying = np.zeros((len(tokens), recipe.width), np.float32)
    reading[:, PLACE_DIMENSIONS:] = dice.standard_normal((len(tokens), free)) / np.sqrt(free)
    for number, token in enumerate(tokens):
        reading[number, _digits(token.following)] = 32.0
        # Bytes and controls are read but never said: their logits stay at zero, far below any word's.
        if token.place is not None:
            saying[number, _digits(token.place)] = 4.0
            saying[number, PLACE_DIMENSIONS:] = dice.standard_normal(free) * 0.2
    saying[END_OF_TEXT, _digits(recipe.longest_answer)] = 4.0
    _add(writer, "token_embd.weight", reading, gguf.GGMLQuantizationType.Q8_0)
    _add(writer, "output.weight", saying, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output_norm.weight", np.ones(recipe.width, np.float32))


def _add_layer(writer: gguf.GGUFWriter, recipe: Recipe, layer: int, dice: np.random.Generator) -> None:
    # Layers neither see the place nor write into it: it says when to end, not what to say.
    norm = np.ones(recipe.width, np.float32)
    norm[:PLACE_DIMENSIONS] = 0.0
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.{layer}.{name}.weight", norm)
    width, hidden = recipe.width, recipe.hidden
    # Each layer drowns out those before it a little; so two prompts that differ in a word grow apart.
    loudness = 0.12 * 1.35**layer
    shapes = {
        "attn_q": (width, width, 0.7),
        "attn_k": (width, width, 0.7),
        "attn_v": (width, width, 4.0),
        "attn_output": (width, width, loudness),
        "ffn_gate": (hidden, width, 2.0),
        "ffn_up": (hidden, width, 1.0),
        "ffn_down": (width, hidden, loudness),
    }
    for name, (rows, columns, scale) in shapes.items():
        # Ternary, because a file of a few megabytes then still means a millisecond or two a token.
        weights = (dice.integers(-1, 2, (rows, columns)) * (scale / np.sqrt(columns))).astype(np.float32)
        if name in ("attn_output", "ffn_down"):
            weights[:PLACE_DIMENSIONS] = 0.0
        _add(writer, f"blk.{layer}.{name}.weight", weights, gguf.GGMLQuantizationType.TQ1_0)


def _add(writer: gguf.GGUFWriter, name: str, weights: Matrix, kind: gguf.GGMLQuantizationType) -> None:
    writer.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)


def _digits(place: int) -> list[int]:
    return [place // BASE, BASE + place % BASE]


def _new_word(taken: set[str], dice: np.random.Generator) -> str:
    while True:
        word = "".join(
            ONSETS[dice.integers(len(ONSETS))] + VOWELS[dice.integers(len(VOWELS))] for _ in range(dice.integers(1, 4))
        )
        if word not in taken:
            taken.add(word)
            return word


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
