"""``python -m bench.semantic.speed``: how long a vector and a decision take, by each backend, in this process.

Every question is new; the three it is compared with are not, as at work. The backends take turns, so that what else
the machine does falls on both.
"""

import argparse
import os
import time
from itertools import islice, product
from statistics import median

from proxy import guards
from proxy.encoder import encoder, graph, places
from proxy.model import Neighbour
from proxy.verifier import stages

TOKENS = 30
WARMING = 5

NOUNS = ("price", "colour", "size", "date", "name", "address", "number", "owner", "title", "place", "form", "plan")
ASKED = (
    "how can i change the {} of my {} order when the {} was paid last week and the shop has not yet answered my letter "
    "at all"
)
KEPT = (
    "in what way can i change the {} of my {} order when the {} was paid last week and the shop has not answered me",
    "how could i change the {} of my {} order if the {} was paid last week and the shop has not yet answered me",
    "what must i do to see the {} of my {} order after the {} was paid and the shop answered me",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="questions for each backend")
    count = parser.parse_args().count
    directory = places.find("")
    if directory is None:
        raise SystemExit("the model is not on this machine: askonce model fetch")
    backends = ["numpy"] if graph.absent() else ["numpy", "onnxruntime"]
    staged = {name: stages.stages(encoder.load(directory, backend=name)) for name in backends}
    vector_s: dict[str, list[float]] = {name: [] for name in backends}
    decision_s: dict[str, list[float]] = {name: [] for name in backends}
    full = 0
    words = islice(product(NOUNS, repeat=3), 0, None, 7)
    for number, three in enumerate(islice(words, count + WARMING)):
        asked, kept = ASKED.format(*three), [text.format(*three) for text in KEPT]
        for name, one in staged.items():
            kept_parsed = [guards.parse(text) for text in kept]
            one.encoder.read(kept)
            start = time.perf_counter()
            tokens = len(one.encoder.read([asked])[0].tokens.ids) + 2
            middle = time.perf_counter()
            neighbours = [Neighbour(text=text, cosine=0.9) for text in kept]
            found = one.judge(asked, neighbours, [guards.parse(asked), *kept_parsed])
            end = time.perf_counter()
            if tokens != TOKENS:
                raise SystemExit(f"{asked!r} has {tokens} tokens, not {TOKENS}")
            if number >= WARMING:
                vector_s[name].append(middle - start)
                decision_s[name].append(end - middle)
                full += any(each.stage == "full" for each in found)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{count} questions of {TOKENS} tokens; load {load} on {os.cpu_count()} processors")
    print(f"{full / (count * len(backends)):.0%} of the decisions went through all stages")
    for name in backends:
        both = [one + other for one, other in zip(vector_s[name], decision_s[name], strict=True)]
        for what, took in (("vector", vector_s[name]), ("decision", decision_s[name]), ("both", both)):
            print(f"{name:12} {what:9} p50 {1e3 * median(took):6.1f} ms  least {1e3 * min(took):6.1f} ms")


if __name__ == "__main__":
    main()
