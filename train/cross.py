"""Trains the cross-encoder: the sentence model's upper layers with a low-rank adapter, both texts in one sequence.

    python -m train.cross --model DIRECTORY --pairs pairs.json --out cross.npz --minutes 40

Needs torch; a processor does. The lower layers stay as they are and read each text once, before training begins. Writes
what inference reads, in float16, at every checkpoint.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from proxy.encoder import encoder as encoding
from proxy.encoder import weights
from proxy.encoder.bert import HEADS, LAYERS, MIDDLE, WIDTH
from proxy.encoder.encoder import Encoder
from proxy.verifier.cross import MAX_TOKENS, SCALE
from train.corpus import Pair, chosen

RANK = 32
ALPHA = 64
HEAD = 64
MET = 128
DROPPED = 0.1
BATCH_TOKENS = 1600
SPAN = 20
"""Batches are made of pairs of about one length, out of so many batches' worth at a time."""
RATE = 1e-3
WARM_UP = 0.02
SMOOTHING = 0.02
SHARES = {"own~": 0.6, "mock": 0.5, "mock+": 0.3, "rqe": 0.4, "": 1.0}
"""How much of each source is taken; the last is for those that are not named."""

LINEAR = ("met", "told", "hidden", "last")

Row = tuple[str, str, int]


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
    """The layers above ``MIDDLE`` with adapters on every matrix, learned norms, marks and types, and a head."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        super().__init__()
        get = lambda name: torch.tensor(np.array(tensors[name]))
        self.marks = nn.Parameter(torch.randn(2, WIDTH) * SCALE / math.sqrt(WIDTH))
        self.types = nn.Parameter(torch.randn(2, WIDTH) * 0.02)
        self.sharpness = nn.Parameter(torch.tensor(12.0))
        self.met = nn.Linear(2 * WIDTH + 1, MET)
        self.told = nn.Linear(MET, WIDTH)
        norm = lambda at: nn.ParameterList([nn.Parameter(get(f"{at}.weight")), nn.Parameter(get(f"{at}.bias"))])
        self.layers = nn.ModuleList()
        for number in range(MIDDLE, LAYERS):
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
        self.hidden = nn.Linear(3 * WIDTH, HEAD)
        self.last = nn.Linear(HEAD, 1)

    def forward(self, states: Tensor, place: Tensor) -> Tensor:
        """*states* (n, t, 384); *place* (n, t): 0 a mark, 1 and 2 a text's token, -1 nothing, the first mark first."""
        n, t, _ = states.shape
        one, other, there = (place == 1)[..., None], (place == 2)[..., None], (place >= 0)[..., None]
        marks = (place == 0).cumsum(1)
        x = states + one * self.types[0] + other * self.types[1]
        x = x + ((place == 0) & (marks == 1))[..., None] * self.marks[0]
        x = x + ((place == 0) & (marks == 2))[..., None] * self.marks[1]
        x = x + (one | other) * self.told(functional.gelu(self.met(self.meeting(states, one[..., 0], other[..., 0]))))
        bias = (place < 0)[:, None, None, :] * -1e9
        for layer in self.layers:
            q, k, v = layer.qkv(x).view(n, t, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            mixed = (
                functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).reshape(n, t, WIDTH)
            )
            x = functional.layer_norm(
                x + functional.dropout(layer.out(mixed), DROPPED, self.training), (WIDTH,), *layer.norm, eps=1e-12
            )
            wide = functional.gelu(layer.up(x))
            x = functional.layer_norm(
                x + functional.dropout(layer.down(wide), DROPPED, self.training), (WIDTH,), *layer.last_norm, eps=1e-12
            )
        mean = lambda which: (x * which).sum(1) / which.sum(1).clamp(min=1)
        both = torch.cat([x[:, 0], mean(there), (mean(one) - mean(other)).abs()], 1)
        both = functional.dropout(both, DROPPED, self.training)
        return self.last(functional.gelu(self.hidden(both)))[:, 0]

    def meeting(self, states: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """(n, t, 769): how each token differs from what it finds in the other text, what both share, how well."""
        unit = states / SCALE
        cosines = unit @ unit.transpose(1, 2)
        across = (one[:, :, None] & other[:, None, :]) | (other[:, :, None] & one[:, None, :])
        weights = torch.softmax((cosines * self.sharpness).masked_fill(~across, -1e4), -1)
        found = weights @ unit
        best = cosines.masked_fill(~across, -1.0).amax(-1, keepdim=True)
        return torch.cat([(unit - found) * SCALE, unit * found * SCALE * SCALE, best], -1)

    def take(self, saved: dict[str, np.ndarray]) -> None:
        """The weights that ``exported`` gave."""
        get = lambda name: torch.tensor(saved[name].astype(np.float32))
        with torch.no_grad():
            for name in ("types", "marks", "sharpness"):
                getattr(self, name).copy_(get(name))
            for number, layer in enumerate(self.layers):
                for name in ("qkv", "out", "up", "down"):
                    getattr(layer, name).down.copy_(get(f"{number}.{name}.down"))
                    getattr(layer, name).up.copy_(get(f"{number}.{name}.up") / (ALPHA / RANK))
                for into, value in zip((*layer.norm, *layer.last_norm), get(f"{number}.norms"), strict=True):
                    into.copy_(value)
            for name in LINEAR:
                getattr(self, name).weight.copy_(get(f"{name}.weight"))
                getattr(self, name).bias.copy_(get(f"{name}.bias"))

    def exported(self) -> dict[str, np.ndarray]:
        """What inference needs, by name."""
        half = lambda tensor: tensor.detach().numpy().astype(np.float16)
        found = {name: half(getattr(self, name)) for name in ("types", "marks", "sharpness")}
        for number, layer in enumerate(self.layers):
            for name in ("qkv", "out", "up", "down"):
                found[f"{number}.{name}.down"] = half(getattr(layer, name).down)
                found[f"{number}.{name}.up"] = half(getattr(layer, name).up * (ALPHA / RANK))
            found[f"{number}.norms"] = half(torch.stack([*layer.norm, *layer.last_norm]))
        for name in LINEAR:
            found[f"{name}.weight"] = half(getattr(self, name).weight)
            found[f"{name}.bias"] = half(getattr(self, name).bias)
        return found


class Texts:
    """What the lower layers make of each text, read once."""

    def __init__(self, encoder: Encoder, texts: Sequence[str]) -> None:
        begun = time.monotonic()
        self._states: dict[str, Tensor] = {}
        unique = sorted(dict.fromkeys(texts), key=len)
        for at in range(0, len(unique), 512):
            part = unique[at : at + 512]
            for text, reading in zip(part, encoder.read(part), strict=True):
                self._states[text] = torch.from_numpy(reading.middle[:MAX_TOKENS].copy())
        print(f"{len(unique)} texts read in {time.monotonic() - begun:.0f} s", flush=True)

    def length(self, row: Row) -> int:
        """How many tokens both texts and the marks take."""
        return len(self._states[row[0]]) + len(self._states[row[1]]) + 2

    def batch(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
        """States, places and labels of *rows*."""
        longest = max(map(self.length, rows))
        states = torch.zeros(len(rows), longest, WIDTH)
        place = torch.full((len(rows), longest), -1)
        for number, (a, b, _) in enumerate(rows):
            one, other = self._states[a], self._states[b]
            end = 1 + len(one)
            states[number, 1:end] = one * SCALE
            states[number, end + 1 : end + 1 + len(other)] = other * SCALE
            place[number, : end + 1 + len(other)] = 2
            place[number, :end] = 1
            place[number, 0] = place[number, end] = 0
        return states, place, torch.tensor([float(label) for _, _, label in rows])


def batches(rows: list[Row], texts: Texts, dice: random.Random) -> list[list[Row]]:
    """Pairs of about one length together, shuffled, either text first."""
    order = [(b, a, label) if dice.random() < 0.5 else (a, b, label) for a, b, label in rows]
    dice.shuffle(order)
    made: list[list[Row]] = []
    chunk = SPAN * 48
    for begin in range(0, len(order), chunk):
        batch: list[Row] = []
        for row in sorted(order[begin : begin + chunk], key=texts.length):
            if batch and texts.length(row) * (len(batch) + 1) > BATCH_TOKENS:
                made.append(batch)
                batch = []
            batch.append(row)
        made.append(batch)
    dice.shuffle(made)
    return made


def main() -> None:
    """Train until the schedule or the time is over, whichever is first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True, help="what `python -m train.gather` wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="weights of an earlier run to go on from")
    parser.add_argument("--epochs", type=float, default=4.0)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=20261125)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    dice = random.Random(given.seed)
    network = Cross(weights.tensors(given.model / "model.safetensors"))
    if given.start is not None:
        network.take(dict(np.load(given.start)))
    gathered = json.loads(given.pairs.read_text())
    training = chosen([Pair(*row) for row in gathered["training"]], SHARES, given.seed)
    rows = [(pair.a, pair.b, pair.label) for pair in training]
    apart = {name: [(a, b, label) for a, b, label, *_ in pairs] for name, pairs in gathered["apart"].items()}
    apart = {name: pairs[:: max(1, len(pairs) // 800)] for name, pairs in apart.items()}
    texts = Texts(
        encoding.load(given.model),
        [text for part in (rows, *apart.values()) for a, b, _ in part for text in (a, b)],
    )
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    print(f"{len(rows)} pairs, {sum(p.numel() for p in learned)} parameters", flush=True)
    optimizer = torch.optim.AdamW(learned, lr=RATE, weight_decay=0.01)
    plan = [batch for _ in range(math.ceil(given.epochs)) for batch in batches(rows, texts, dice)]
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
        states, place, labels = texts.batch(batch)
        logits = network(states, place)
        loss = functional.binary_cross_entropy_with_logits(logits, labels * (1 - 2 * SMOOTHING) + SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        recent, seen = 0.98 * recent + 0.02 * float(loss.detach()), seen + len(batch)
        if step % 50 == 49:
            print(f"{step + 1}/{len(plan)} {seen} pairs {time.monotonic() - begun:.0f} s loss {recent:.3f}", flush=True)
        if time.monotonic() - checkpoint > 240:
            save(network, given.out)
            told(network, texts, apart)
            checkpoint = time.monotonic()
    save(network, given.out)
    told(network, texts, apart)
    print(f"done: {seen} pairs in {time.monotonic() - begun:.0f} s", flush=True)


def save(network: Cross, out: Path) -> None:
    partial = out.with_suffix(".part.npz")
    np.savez(partial, **network.exported())
    partial.replace(out)


def told(network: Cross, texts: Texts, apart: dict[str, list[Row]]) -> None:
    """Print how the parts kept apart fare."""
    network.eval()
    for name, rows in apart.items():
        order = sorted(rows, key=texts.length)
        scores = []
        with torch.no_grad():
            for begin in range(0, len(order), 32):
                states, place, _ = texts.batch(order[begin : begin + 32])
                scores += network(states, place).tolist()
        s, y = np.array(scores), np.array([label for _, _, label in order])
        ranks = np.empty(len(s))
        ranks[np.argsort(s)] = np.arange(len(s))
        positive = y.sum()
        auc = (ranks[y == 1].sum() - positive * (positive - 1) / 2) / (positive * (len(y) - positive))
        cut = np.quantile(s[y == 0], 0.98)
        print(f"  {name}: auc {auc:.3f}, recall at 2 % of the different {np.mean(s[y == 1] > cut):.3f}", flush=True)


if __name__ == "__main__":
    main()
