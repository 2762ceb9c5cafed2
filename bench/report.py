"""The results as a table for people and as JSON for programs."""

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import proxy
from bench import cases, processes
from bench.cases import NGINX, OURS, Added, Case, Costs, Memory

RESULTS = Path(__file__).parent / "results" / "latest.json"


@dataclass(slots=True)
class Results:
    """One run of the benches."""

    costs: dict[str, dict[str, Costs]] = field(default_factory=dict)
    latency: dict[str, Added] = field(default_factory=dict)
    memory: Memory | None = None


def table(results: Results) -> str:
    """Everything in lines of text, with what passes its mark and what does not."""
    lines = []
    if results.costs:
        lines.append("CPU in microseconds (least / median of the rounds)")
        lines.append(f"  {'':53}{'ours':>17}{'nginx':>17}{'ratio':>15}  mark")
        lines += [_row(case, results.costs[case.name]) for case in cases.CASES if case.name in results.costs]
        lines += _relay_rows(results.costs.get("relay", {}))
    if results.latency:
        lines.append("Latency added to a miss, in milliseconds (least / median of the rounds)")
        for name, added in results.latency.items():
            line = f"  {name:<10} p50 {_span(added.p50_s, 1e3)}   p99 {_span(added.p99_s, 1e3)}"
            if name == OURS:
                line += f"   p50 < {cases.MOST_ADDED_P50_S * 1e3:g}: {_verdict(added_ok(added))}"
            lines.append(line)
    if results.memory is not None:
        memory = results.memory
        target = 1.3 * memory.stored_bytes + 1024
        lines.append(
            f"Memory per cached answer of {memory.stored_bytes:.0f} bytes (head and body), {memory.answers} of them"
        )
        lines.append(
            f"  grown by {memory.grown_bytes:.0f} bytes, the store counts {memory.accounted_bytes:.0f};"
            f"   < {cases.MOST_BYTES_PER_ANSWER}: {_verdict(memory_ok(memory))}"
            f"   <= {target:.0f} (1.3 x bytes + 1 KB): {_verdict(memory.grown_bytes <= target)}"
        )
    lines.append(", ".join(f"{name} {number}" for name, number in versions().items() if number))
    return "\n".join(lines)


def added_ok(added: Added) -> bool:
    """Whether the latency we add is within its mark, in the usual round."""
    return _median(added.p50_s) < cases.MOST_ADDED_P50_S


def memory_ok(memory: Memory) -> bool:
    """Whether an answer takes no more than its mark."""
    return memory.grown_bytes < cases.MOST_BYTES_PER_ANSWER


def ratios(costs: dict[str, Costs]) -> tuple[float, float] | None:
    """Ours over nginx: of the least and of the medians; None where there is no nginx."""
    if NGINX not in costs:
        return None
    ours, nginx = costs[OURS], costs[NGINX]
    return ours.least_s / nginx.least_s, ours.median_s / nginx.median_s


def write(results: Results, *, command: str, rounds: int, effort: float) -> Path:
    """Put everything into RESULTS."""
    told: dict[str, object] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "rounds": rounds,
        "effort": effort,
        "machine": machine(),
        "versions": versions(),
        "cases": {name: _case_told(name, costs) for name, costs in results.costs.items()},
        "latency": {name: dataclasses.asdict(added) for name, added in results.latency.items()},
        "memory": dataclasses.asdict(results.memory) if results.memory is not None else None,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(told, indent=2) + "\n")
    return RESULTS


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions() -> dict[str, str | None]:
    """Of everything that takes part."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=processes.ROOT, timeout=10
    )
    return {
        "askonce": proxy.__version__,
        "revision": git.stdout.strip() or None,
        "python": platform.python_version(),
        "aiohttp": version("aiohttp"),
        "uvloop": version("uvloop"),
        "nginx": processes.nginx_version(),
    }


def _row(case: Case, costs: dict[str, Costs]) -> str:
    shown = [_span(costs[name].cpu_s, 1e6, digits=1) if name in costs else "-" for name in (OURS, NGINX)]
    found = ratios(costs)
    ratio = f"{found[0]:.2f} / {found[1]:.2f}" if found else "-"
    mark = "-"
    if case.most_ratio is not None:
        mark = f"<= {case.most_ratio:g}: {_verdict(found[1] <= case.most_ratio) if found else 'no nginx'}"
    return f"  {case.name:<12}{case.told:<41}{shown[0]:>17}{shown[1]:>17}{ratio:>15}  {mark}"


def _relay_rows(costs: dict[str, Costs]) -> list[str]:
    return [
        f"    {name}: event underway {_span(each.lag_p50_s, 1e3)} ms p50, {_span(each.lag_p99_s, 1e3)} ms p99;"
        f" in one read with the one before: {100 * _median(each.merged):.2f} %"
        for name, each in costs.items()
    ]


def _case_told(name: str, costs: dict[str, Costs]) -> dict[str, object]:
    found = ratios(costs)
    most = next(case.most_ratio for case in cases.CASES if case.name == name)
    return {
        "cpu_us": {
            server: {
                "least": round(each.least_s * 1e6, 2),
                "median": round(each.median_s * 1e6, 2),
                "rounds": [round(seconds * 1e6, 2) for seconds in each.cpu_s],
            }
            for server, each in costs.items()
        },
        "client_cpu_us": {server: round(_median(each.client_cpu_s) * 1e6, 2) for server, each in costs.items()},
        "ratio": {"least": round(found[0], 3), "median": round(found[1], 3)} if found else None,
        "mark": most,
        "passes": found[1] <= most if found and most is not None else None,
        "events": {
            server: {"merged": each.merged, "lag_p50_s": each.lag_p50_s, "lag_p99_s": each.lag_p99_s}
            for server, each in costs.items()
            if each.merged
        },
    }


def _span(values: Sequence[float], scale: float, *, digits: int = 2) -> str:
    return f"{min(values) * scale:.{digits}f} / {_median(values) * scale:.{digits}f}"


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def _verdict(passes: bool) -> str:
    return "pass" if passes else "FAIL"
