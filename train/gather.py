"""Writes the pairs that training reads, and what is kept apart from it.

python -m train.gather --model DIRECTORY --shared DIRECTORY --out pairs.json
"""

import argparse
import json
from dataclasses import astuple
from pathlib import Path

from proxy.encoder import encoder
from train import corpus


def main() -> None:
    """Assemble, write, and say what of what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    training, apart = corpus.assemble(given.shared, encoder.load(given.model))
    given.out.write_text(
        json.dumps(
            {
                "training": [astuple(pair) for pair in training],
                "apart": {name: [astuple(pair) for pair in pairs] for name, pairs in apart.items()},
            }
        )
    )
    print(json.dumps(corpus.described(training), indent=1))
    print({name: len(pairs) for name, pairs in apart.items()}, len(training))


if __name__ == "__main__":
    main()
