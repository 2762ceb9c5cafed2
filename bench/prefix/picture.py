"""The results as bars. matplotlib is needed here alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.prefix.contests import Outcome, Waits


def draw(tables: Mapping[str, Sequence[Outcome]], waits: Sequence[Waits], file: Path) -> None:
    """Write the picture of all contests to *file*."""
    # Here, because everything but the picture works without it.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 2, figsize=(13, 11))
    flat = list(axes.flat)
    for axis, (title, outcomes) in zip(flat, tables.items(), strict=False):
        names = [each.policy for each in outcomes]
        colours = ["#888" if "bound" in name else "#2a7" if "learned" in name else "#c63" for name in names]
        axis.barh(names, [100 * each.cost for each in outcomes], color=colours)
        axis.invert_yaxis()
        axis.set_title(title)
        axis.set_xlabel("input cost, 100 = no caching")
    flat[-1].axis("off")
    last = flat[-2]
    colours = ["#888" if "bound" in each.policy else "#2a7" if each.policy == "prefix" else "#c63" for each in waits]
    last.barh([each.policy for each in waits], [each.mean_s for each in waits], color=colours)
    last.invert_yaxis()
    last.set_xscale("log")
    last.set_title("four engines: mean time to first token")
    last.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)
