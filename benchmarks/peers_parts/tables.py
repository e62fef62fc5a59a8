"""The section of docs/benchmarks.md on other programs, from what has been measured."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from cells import put

from .roofline import COMPILED

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
Results = dict[str, dict[str, dict[str, Any]]]
"""By part and cell."""


def section(found: Results) -> list[str]:
    """Its lines; none where nothing was measured."""
    lines = [*_speed(found["speed"]), *_quality(found["quality"], found["trials"]), *_roofline(found["roofline"])]
    return ["## Beside other programs", "", _machine(found), "", *lines] if lines else []


def write(found: Results) -> None:
    """Puts the section in the place of the one before."""
    PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), "peers", "\n".join(section(found))), encoding="utf-8")


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(str(v) for v in row) + " |" for row in rows), ""]


def _span(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f}× [{ratio['least']:.2f}, {ratio['greatest']:.2f}]"


def _machine(found: Results) -> str:
    machines = [cell["machine"] for part in ("speed", "quality", "roofline") for cell in found[part].values()]
    names = sorted({f"{m['processor']}, which {'computes' if m['bf16'] else 'does not compute'} in bfloat16, {m['cores']} cores"
                    for m in machines})
    taken = sorted(m["cores_taken_by_others"] for m in machines)
    return (f"`python benchmarks/peers.py speed|quality|roofline MNIST.npz`. {'; '.join(names)}; other programs took "
            f"{taken[0]:.1f} to {taken[-1]:.1f} cores meanwhile, in the median cell {statistics.median(taken):.1f}. Each program runs "
            "in a process of its own, set up as its users have it, with one thread or as many as there are cores, whichever is quicker for it, and takes its turns "
            "beside the others in one run.")


def _speed(found: dict[str, dict[str, Any]]) -> list[str]:
    if not found:
        return []
    names = {"mlp": "MLP of Pythae", "resnet": "ResNet of Pythae", "vq": "VQ-VAE of Pythae", "vanilla": "VanillaVAE, 64×64",
             "dcgan": "DCGAN, 32×32"}
    rows = []
    for cell, r in found.items():
        for i, (who, rates) in enumerate(r["images_per_second"].items()):
            plain = r["to_plain"].get(who)
            rows.append([f"{names[cell]}, {r['parameters']:,} parameters" if not i else "", who, r["told"][who]["precision"], _threads(r["told"][who]),
                         f"{statistics.median(rates):,.0f}", _span(r["ratios"][who]) if i else "", _span(plain) if plain else ""])
    turns = {len(rates) for r in found.values() for rates in r["images_per_second"].values()}
    return ["Images per second of training the same network: the median of "
            f"{' or '.join(map(str, sorted(turns)))} turns of two seconds, and of the ratios of a turn, with the least and the greatest. "
            "Pythae's turn is its trainer's own epoch without what comes before and after; compiled steps leave out the compilation. "
            "VanillaVAE's loop is as AntixK/PyTorch-VAE has it under Lightning (Adam, float32, every loss read for the log) without "
            "Lightning, DCGAN's as PyTorch's tutorial has it; both get their batches from one array, which is quicker than a DataLoader. "
            "The plain loop has fused AdamW, channels_last, no copies of gradients and the quicker of float32 and bfloat16; reparam "
            "beside it guards, clips and averages. Much of the ratio to other programs is bfloat16, which they do not use on a "
            "processor.", "", *_table(["network", "program", "precision", "threads", "images/s", "to the first", "to the plain loop"], rows)]


def _threads(told: dict[str, Any]) -> str:
    return f"{told['threads']} each" if told.get("processes", 1) > 1 else str(told["threads"])


def _quality(found: dict[str, dict[str, Any]], trials: dict[str, dict[str, Any]]) -> list[str]:
    if not found:
        return []
    rows = []
    for target in "ab":
        runs = [cell["runs"] for name, cell in found.items() if name.startswith(target)]
        for who in runs[0] if runs else ():
            of = {k: [run[who][k] for run in runs] for k in ("seconds", "-elbo", "iw_nll(100)", "epochs")}
            faster = [run["Pythae"]["seconds"] / run[who]["seconds"] for run in runs]
            rows.append([f"({target})", who, f"{statistics.median(of['epochs']):g}", *(_middle(of[k], 2) for k in ("seconds", "-elbo", "iw_nll(100)")),
                         "" if who == "Pythae" else f"{_middle(faster)}×",
                         "" if who == "Pythae" else f"{sum(run[who]['-elbo'] <= run['Pythae']['-elbo'] for run in runs)} of {len(runs)}"])
    n = sum(len(cell["trials"]) for cell in trials.values())
    return ["Seconds of training to the ELBO that Pythae's pipeline reaches on binary MNIST after ten epochs, (a) with its defaults (Adam "
            "1e-4, batches of 64, grey targets), (b) with its learning rate tuned (Adam 1e-3, batches of 128, black and white drawn anew at "
            "each step; it was not tuned further): the median over seeds, with the least and the greatest where there are several, on all 10,000 "
            "test images, iw_nll on 2,000 of them, nats. Pythae has one thread or two, whichever is quicker for it. Ours is all that one waits "
            f"for after the data is read and precision is chosen. Our recipes were chosen among {n} trials on 5,000 held-out training images "
            "(`peers.py trials`), and measured once on the test images. *Reached*: seeds at which ours was no worse than Pythae at the same "
            "seed.", "",
            *_table(["target", "who", "epochs", "seconds", "−ELBO", "iw_nll(100)", "times as fast", "reached"], rows)]


def _middle(values: list[float], digits: int = 1) -> str:
    """The median, and the least and greatest of several."""
    several = f" [{min(values):.{digits}f}, {max(values):.{digits}f}]" if len(values) > 1 else ""
    return f"{statistics.median(values):.{digits}f}{several}"


def _roofline(found: dict[str, dict[str, Any]]) -> list[str]:
    if not found:
        return []
    names = {"mlp64": "MLP, batches of 64", "mlp512": "MLP, batches of 512", "resnet": "ResNet, batches of 128",
             "vanilla": "VanillaVAE, batches of 64"}
    rows = [[names[cell.removesuffix(COMPILED)], "compiled" if cell.endswith(COMPILED) else "as it is", r["precision"], r["threads"], r["ms a step"],
             f"{r['share of its layers']:.0%} [{min(r['shares']):.0%}, {max(r['shares']):.0%}]", *r["GFLOP/s"].values()]
            for cell, r in found.items()]
    return ["What share of the machine a training step reaches. *Of its layers*: the time that the network's dense layers and convolutions "
            "take forward and backward by themselves, measured in turn with the step at the same shapes, in the same precision and layout, "
            "as a share of the step's. Then GFLOP/s: of the step, of its layers by themselves, and where the kernels are best: a product of "
            "1,024² matrices, and a 3×3 convolution of 128 channels, forward.", "",
            *_table(["network", "step", "precision", "threads", "ms a step", "of its layers", "step", "layers", "matrix product", "convolution"], rows)]
