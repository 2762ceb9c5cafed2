"""Trains the cross-encoder: the sentence model with a low-rank adapter, both texts in one sequence.

    python -m train.cross --model DIRECTORY --shared DIRECTORY --out cross.npz --minutes 40

Needs torch; a processor does. Writes what inference reads, in float16, at every checkpoint.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from proxy.encoder import weights
from proxy.encoder.bert import HEADS, LAYERS, WIDTH
from proxy.encoder.wordpiece import WordPiece
from train.corpus import Pair, chosen

RANK = 16
ALPHA = 32
BATCH_TOKENS = 1600
SPAN = 20
"""Batches are made of pairs of about one length, out of so many batches' worth at a time."""
RATE = 1.2e-3
WARM_UP = 0.05
MAX_TOKENS = 128
SMOOTHING = 0.02
SHARES = {"own": 1.0, "own+": 0.5, "own~": 0.3, "mft": 0.7, "mock": 0.4, "mock+": 0.2, "rqe": 0.3, "": 0.45}
"""How much of each source is taken; the last is for those that are not named."""


class Adapted(nn.Module):
    """A fixed matrix and a learned one of low rank beside it."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.down = nn.Parameter(torch.randn(RANK, weight.shape[1]) / math.sqrt(weight.shape[1]))
        self.up = nn.Parameter(torch.zeros(weight.shape[0], RANK))

    def forward(self, x: Tensor) -> Tensor:
        # Beside it, not merged into it: the fixed matrix then needs no gradient of its own, a third of the work.
        return functional.linear(x, self.weight, self.bias) + (x @ self.down.T) @ (self.up.T * (ALPHA / RANK))


class Cross(nn.Module):
    """BERT with adapters on every matrix, learned norms and types, and a head on the mean and the first state."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        super().__init__()
        get = lambda name: torch.tensor(np.array(tensors[name]))
        self.register_buffer("words", get("embeddings.word_embeddings.weight"))
        self.register_buffer("positions", get("embeddings.position_embeddings.weight"))
        self.types = nn.Parameter(get("embeddings.token_type_embeddings.weight"))
        norm = lambda at: nn.ParameterList([nn.Parameter(get(f"{at}.weight")), nn.Parameter(get(f"{at}.bias"))])
        self.norm = norm("embeddings.LayerNorm")
        self.layers = nn.ModuleList()
        for number in range(LAYERS):
            at = f"encoder.layer.{number}"
            own = [f"{at}.attention.self.{name}" for name in ("query", "key", "value")]
            layer = nn.Module()
            layer.qkv = Adapted(
                torch.cat([get(f"{name}.weight") for name in own]), torch.cat([get(f"{name}.bias") for name in own])
            )
            for name, path in (
                ("out", "attention.output.dense"),
                ("up", "intermediate.dense"),
                ("down", "output.dense"),
            ):
                setattr(layer, name, Adapted(get(f"{at}.{path}.weight"), get(f"{at}.{path}.bias")))
            layer.norm = norm(f"{at}.attention.output.LayerNorm")
            layer.last_norm = norm(f"{at}.output.LayerNorm")
            self.layers.append(layer)
        self.hidden = nn.Linear(2 * WIDTH, 64)
        self.last = nn.Linear(64, 1)

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        n, t = ids.shape
        x = self.words[ids] + self.positions[:t] + self.types[types]
        x = functional.layer_norm(x, (WIDTH,), *self.norm, eps=1e-12)
        bias = (1 - mask)[:, None, None, :] * -1e9
        for layer in self.layers:
            q, k, v = layer.qkv(x).view(n, t, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            mixed = (
                functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).reshape(n, t, WIDTH)
            )
            x = functional.layer_norm(
                x + functional.dropout(layer.out(mixed), 0.05, self.training), (WIDTH,), *layer.norm, eps=1e-12
            )
            wide = functional.gelu(layer.up(x))
            x = functional.layer_norm(
                x + functional.dropout(layer.down(wide), 0.05, self.training), (WIDTH,), *layer.last_norm, eps=1e-12
            )
        mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        both = torch.cat([x[:, 0], mean], 1)
        return self.last(functional.gelu(self.hidden(both)))[:, 0]

    def take(self, saved: dict[str, np.ndarray]) -> None:
        """The weights that ``exported`` gave."""
        get = lambda name: torch.tensor(saved[name].astype(np.float32))
        with torch.no_grad():
            self.types.copy_(get("types"))
            for into, value in zip(self.norm, get("norm"), strict=True):
                into.copy_(value)
            for number, layer in enumerate(self.layers):
                for name in ("qkv", "out", "up", "down"):
                    getattr(layer, name).down.copy_(get(f"{number}.{name}.down"))
                    getattr(layer, name).up.copy_(get(f"{number}.{name}.up") / (ALPHA / RANK))
                for into, value in zip((*layer.norm, *layer.last_norm), get(f"{number}.norms"), strict=True):
                    into.copy_(value)
            for name in ("hidden", "last"):
                getattr(self, name).weight.copy_(get(f"{name}.weight"))
                getattr(self, name).bias.copy_(get(f"{name}.bias"))

    def exported(self) -> dict[str, np.ndarray]:
        """What inference needs, by name."""
        half = lambda tensor: tensor.detach().numpy().astype(np.float16)
        found = {"types": half(self.types), "norm": half(torch.stack(list(self.norm)))}
        for number, layer in enumerate(self.layers):
            for name in ("qkv", "out", "up", "down"):
                found[f"{number}.{name}.down"] = half(getattr(layer, name).down)
                found[f"{number}.{name}.up"] = half(getattr(layer, name).up * (ALPHA / RANK))
            found[f"{number}.norms"] = half(torch.stack([*layer.norm, *layer.last_norm]))
        found["hidden.weight"], found["hidden.bias"] = half(self.hidden.weight), half(self.hidden.bias)
        found["last.weight"], found["last.bias"] = half(self.last.weight), half(self.last.bias)
        return found


def sequence(pieces: WordPiece, a: str, b: str) -> tuple[list[int], list[int]]:
    """Token ids and types of both texts in one sequence."""
    one = pieces.tokens(a, limit=MAX_TOKENS // 2 - 2).ids
    two = pieces.tokens(b, limit=MAX_TOKENS // 2 - 2).ids
    return (
        [pieces.start, *one, pieces.end, *two, pieces.end],
        [0] * (len(one) + 2) + [1] * (len(two) + 1),
    )


def batches(rows: list[tuple[list[int], list[int], int]], dice: random.Random) -> list[list[int]]:
    """Indexes of pairs of about one length, shuffled."""
    order = list(range(len(rows)))
    dice.shuffle(order)
    made: list[list[int]] = []
    chunk = SPAN * 48
    for begin in range(0, len(order), chunk):
        part = sorted(order[begin : begin + chunk], key=lambda at: len(rows[at][0]))
        batch: list[int] = []
        for at in part:
            if batch and len(rows[at][0]) * (len(batch) + 1) > BATCH_TOKENS:
                made.append(batch)
                batch = []
            batch.append(at)
        made.append(batch)
    dice.shuffle(made)
    return made


def tensor(rows: list[tuple[list[int], list[int], int]], batch: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    longest = max(len(rows[at][0]) for at in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    types = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros(len(batch), longest)
    for row, at in enumerate(batch):
        one, two, _ = rows[at]
        ids[row, : len(one)] = torch.tensor(one)
        types[row, : len(one)] = torch.tensor(two)
        mask[row, : len(one)] = 1
    return ids, types, mask, torch.tensor([float(rows[at][2]) for at in batch])


def main() -> None:
    """Train until the schedule or the time is over, whichever is first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True, help="what `python -m train.gather` wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="weights of an earlier run to go on from")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=20261125)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    dice = random.Random(given.seed)
    pieces = WordPiece(weights.vocabulary(given.model / "tokenizer.json"))
    network = Cross(weights.tensors(given.model / "model.safetensors"))
    if given.start is not None:
        network.take(dict(np.load(given.start)))
    gathered = json.loads(given.pairs.read_text())
    training = chosen([Pair(*row) for row in gathered["training"]], SHARES, given.seed)
    rows = [
        (*sequence(pieces, *((pair.a, pair.b) if dice.random() < 0.5 else (pair.b, pair.a))), pair.label)
        for pair in training
    ]
    apart = {
        name: [(*sequence(pieces, a, b), label) for a, b, label, *_ in pairs]
        for name, pairs in gathered["apart"].items()
    }
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    print(f"{len(rows)} pairs, {sum(p.numel() for p in learned)} parameters", flush=True)
    optimizer = torch.optim.AdamW(learned, lr=RATE, weight_decay=0.01)
    plan = [batch for _ in range(math.ceil(given.epochs)) for batch in batches(rows, dice)]
    plan = plan[: int(len(plan) * given.epochs / math.ceil(given.epochs))]
    begun, recent, seen = time.monotonic(), 0.7, 0
    share = 0.0
    checkpoint = time.monotonic()
    for step, batch in enumerate(plan):
        # The rate falls with whichever of plan and time is nearer to its end.
        share = max(step / len(plan), (time.monotonic() - begun) / (60 * given.minutes), share)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / (WARM_UP * len(plan))) * max(0.02, 1 - share)
        network.train()
        ids, types, mask, labels = tensor(rows, batch)
        logits = network(ids, types, mask)
        loss = functional.binary_cross_entropy_with_logits(logits, labels * (1 - 2 * SMOOTHING) + SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        recent, seen = 0.98 * recent + 0.02 * float(loss.detach()), seen + len(batch)
        if step % 25 == 24:
            print(f"{step + 1}/{len(plan)} {seen} pairs {time.monotonic() - begun:.0f} s loss {recent:.3f}", flush=True)
        if time.monotonic() - checkpoint > 240:
            save(network, given.out)
            told(network, apart)
            checkpoint = time.monotonic()
    save(network, given.out)
    told(network, apart)
    print(f"done: {seen} pairs in {time.monotonic() - begun:.0f} s", flush=True)


def save(network: Cross, out: Path) -> None:
    partial = out.with_suffix(".part.npz")
    np.savez(partial, **network.exported())
    partial.replace(out)


def told(network: Cross, apart: dict[str, list[tuple[list[int], list[int], int]]]) -> None:
    """Print how the parts kept apart fare."""
    network.eval()
    for name, rows in apart.items():
        order = sorted(range(len(rows)), key=lambda at: len(rows[at][0]))[:: max(1, len(rows) // 800)]
        scores, labels = [], []
        with torch.no_grad():
            for begin in range(0, len(order), 32):
                ids, types, mask, right = tensor(rows, order[begin : begin + 32])
                scores += network(ids, types, mask).tolist()
                labels += right.tolist()
        s, y = np.array(scores), np.array(labels)
        order2 = np.argsort(s)
        ranks = np.empty(len(s))
        ranks[order2] = np.arange(len(s))
        positive = y.sum()
        auc = (ranks[y == 1].sum() - positive * (positive - 1) / 2) / (positive * (len(y) - positive))
        cut = np.quantile(s[y == 0], 0.98)
        print(f"  {name}: auc {auc:.3f}, recall at 2 % of the different {np.mean(s[y == 1] > cut):.3f}", flush=True)


if __name__ == "__main__":
    main()
