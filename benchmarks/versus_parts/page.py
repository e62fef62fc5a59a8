"""docs/vae-versus-gan.md: who wins where, what that rests on, and what is missing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from .claims import DUPLICATES, LEAST_SEEDS, VENDI, Verdict, agreement
from .figures import WAYS, Measured
from .judging import FEATURES, JUDGES, NEIGHBOURS
from .pictures import curves, samples
from .players import ENTERING, GAN, HYBRID, PLAYERS, RESAMPLER, RESAMPLER_SHARE, VAE
from .scales import Scale

DOCS = Path(__file__).parents[2] / "docs"
NAMES = {"fashion": "Fashion-MNIST", "faces": "faces64", "mnist": "MNIST", "cifar": "CIFAR-10 (recompressed)"}
LOSSES = (Verdict.SECOND, Verdict.FIRST_UNABLE, Verdict.DISAGREE, Verdict.LEVEL, Verdict.FIRST, Verdict.SECOND_UNABLE,
          Verdict.BOTH_UNABLE, Verdict.MACHINES, Verdict.FEW, Verdict.SEARCHING, Verdict.MISSING)
"""The VAE's losses first."""
WORDS = {Verdict.FIRST: "**{one}**", Verdict.SECOND: "**{other}**", Verdict.FIRST_UNABLE: "no {one} is able",
         Verdict.SECOND_UNABLE: "no {other} is able"}
BY_NETWORK = (("fd", 1), ("kd", 3), ("precision", 2), ("recall", 2), ("density", 2), ("coverage", 2))
OF_ALL = (("duplicates", 3), ("vendi", 1), ("sharpness", 1))


def write(results: Path, scale: Scale, beside: Path | None) -> None:
    """Writes the page and its pictures, into docs or into another folder."""
    where, found = beside or DOCS, Measured.read(results)
    lines = [*head(found, scale), *winners(found), *still_missing(found, scale), *rules(scale)]
    for data in scale.sets:
        lines += section(found, data, samples(results, found, data, where))
    lines += [*agreements(found), *curves(found, scale.sets, where), *trials(found), *limits(scale)]
    (where / "vae-versus-gan.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def table(headings: list[str], rows: list[list[str]]) -> list[str]:
    if not rows:
        return []
    return ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings), *("| " + " | ".join(r) + " |" for r in rows), ""]


def span(values: list[float], digits: int) -> str:
    """The mean, and of several seeds the least and greatest."""
    if not values:
        return "–"
    text = f"{np.mean(values):,.{digits}f}"
    return text if len(values) == 1 else f"{text} [{min(values):,.{digits}f}, {max(values):,.{digits}f}]"


def say(verdict: Verdict, one: str, other: str) -> str:
    return WORDS.get(verdict, verdict.value).format(one=one, other=other)


def head(found: Measured, scale: Scale) -> list[str]:
    return ["# VAE versus GAN", "",
            "Which draws the better images when both have the same data, the same parameters, the same few minutes of one processor core, and "
            f"the same search for settings on each set: a VAE ({named(VAE)}), a VAE with a critic ({named(HYBRID)}), or a GAN ({named(GAN)})? "
            "Written by `python benchmarks/versus.py table DATA` from `benchmarks/results/versus`.", "",
            "FD is the Fréchet distance between features of draws and of test images, by two unrelated networks "
            "([evaluation.md](evaluation.md)); neither is FID, and figures of the two do not compare with each other. Lower is better.", ""]


def named(side: str) -> str:
    return ", ".join(f"`{n}`" for n, p in PLAYERS.items() if p.side == side)


def winners(found: Measured) -> list[str]:
    """One row for each set, budget and way of drawing, the VAE's losses first."""
    rows: list[tuple[int, list[str]]] = []
    for data in NAMES:
        for minutes in found.budgets(data):
            for way, words in WAYS.items():
                verdict = found.verdict(data, minutes, way, "fd", VAE, GAN)
                rows.append((LOSSES.index(verdict), [
                    NAMES[data], f"{minutes:g}", words, say(verdict, "VAE", "GAN"),
                    say(found.verdict(data, minutes, way, "fd", HYBRID, GAN), "hybrid", "GAN"),
                    say(found.verdict(data, minutes, way, "coverage", VAE, GAN), "VAE", "GAN"),
                    *(leader(found, data, minutes, way, side) for side in (VAE, HYBRID, GAN)), lost(found, data, minutes, way)]))
    rows.sort(key=lambda row: row[0])
    if not rows:
        return ["Nothing has been trained yet.", ""]
    return ["## Who wins where", "", *table(["data", "minutes", "draws", "FD: VAE or GAN", "FD: hybrid or GAN", "coverage: VAE or GAN",
                                             "VAE", "hybrid", "GAN", "unable"], [row for _, row in rows]),
            f"The VAE's losses stand first. A name in bold is ahead by both networks with all {LEAST_SEEDS} seeds; *level*: ranges of seeds meet "
            "by one network at least; *networks disagree*: each puts another side ahead; *too few seeds*: nothing is claimed of fewer than "
            f"{LEAST_SEEDS}; *searches missing*: not all of a side have been searched, so that it is not known who enters. The last columns name each side's able player with the least mean FD by EfficientNet, with its mean FD by EfficientNet "
            "and by Inception. *Unable* players collapsed; they are left out, and not called beaten.", "",
            *([f"**Searches that took longer than others**, by fitting mixtures or by encoding all images for what learns from codes, which no share of the "
               f"seconds covers, and so favour their players: {', '.join(longer)}. They are to be repeated.", ""] if (longer := overran(found)) else [])]


def leader(found: Measured, data: str, minutes: float, way: str, side: str) -> str:
    name = found.best(data, minutes, way, side)
    if name is None:
        return "–"
    return f"`{name}` " + ", ".join(f"{np.mean(found.values(data, minutes, name, way, j, 'fd')):,.4g}" for j in JUDGES)


def lost(found: Measured, data: str, minutes: float, way: str) -> str:
    return ", ".join(f"`{n}`" for n in found.players(data, minutes) if found.is_unable(data, minutes, n, way)) or "none"


def still_missing(found: Measured, scale: Scale) -> list[str]:
    """What the rules ask for and has not been measured, in a line each."""
    there = {f"{d}-{n}-{m:g}-{c['seed']}" for (d, m, n), cells in found.grid.items() for c in cells}
    known = scale.trainings(found.entrants())
    trainings, number = [c for c in known if c not in there], scale.number_of_trainings()
    left = number - len(known) + len(trainings)
    tunings = [c for c in scale.tunings() if tuple(c.split("-")) not in found.tunings]
    references = [data for data in scale.sets if data not in found.references]
    lines = [f"- {what}{these(cells[:12], n)}." for what, cells, n in (
        (f"{left} of {number} trainings", trainings, left),
        (f"{len(tunings)} of {len(scale.tunings())} searches for settings", tunings, len(tunings)),
        ("floor and ceilings", references, len(references))) if n]
    return ["**Missing.** Not measured yet:", "", *lines, ""] if lines else []


def these(cells: list[str], n: int) -> str:
    """The first of n cells, and how many more there are."""
    more = n - len(cells)
    return (": " + ", ".join(f"`{c}`" for c in cells) + (f" and {more} more" if more else "")) if cells else ""


def rules(scale: Scale) -> list[str]:
    rungs = ", then the best ".join(f"{r.settings} for {r.seconds:g} s" for r in scale.rungs)
    return ["## The rules", "",
            f"- **Same for all.** The data; processor seconds of one thread ({' or '.join(f'{m:g}' for m in scale.minutes)} minutes), which cover "
            "the model, what is fitted to its codes, and the resampler; the parameters of everything that sampling needs within 10 % of 0.8 "
            "million (faces64: 1.2 million). What only training needs (encoder, critic) is not counted among parameters; it takes its time.",
            f"- **Settings** are searched for every player on every set alike: {rungs}, by successive halving; the first setting is the paper's own, of the size that all have, "
            "the others are drawn at random, by a fixed seed, from ranges that papers use. FD by EfficientNet to training images that were held "
            "out chooses; test images choose nothing, and Inception chooses nothing at all.",
            f"- **Who enters.** Of the VAEs {ENTERING[VAE]}, of the hybrids {ENTERING[HYBRID]}, of the GANs {ENTERING[GAN]} on each set, those whose searches ended with the least FD: they are trained "
            f"with {len(scale.seeds)} seeds for {scale.minutes[0]:g} minutes and with one for {scale.minutes[1]:g}, and the first table is of them alone. All seeds of a row are of one kind of "
            "processor; where they are not, nothing is claimed.",
            f"- **Plain draws** are of the prior or the noise at temperature 1. A refiner's temperature is a setting of a VAE's decoder, since the decoder's mean "
            f"alone, which VAEs without a refiner draw, is a refiner at 0. **Draws as chosen** may change temperatures and keep the better draws by "
            f"a resampler, `{RESAMPLER}`, for VAEs and GANs alike: it is trained within the budget ({RESAMPLER_SHARE:.0%}), and held-out training images "
            "choose the way, where it is better beyond noise; what choosing takes is told and not charged, to no player. A player for which plain draws were chosen has the same figures twice.",
            f"- **Figures** are of as many draws as there are test images, 10,000 (faces64: 2,500, kept out of training); precision, recall, density, "
            f"coverage, duplicates and Vendi of {NEIGHBOURS:,} of each.",
            f"- **A claim** asks that all seeds of one player are below all seeds of each player of the other side, by both networks. Ranges of {LEAST_SEEDS} "
            "seeds are asked, not an interval by bootstrap, since trainings differ by more than draws of one training do. By chance alone two "
            "players' ranges of three are apart in one comparison of ten by one network.",
            f"- **Unable** is a player most of whose seeds repeat themselves (duplicates of {DUPLICATES} or more), amount to no more than {VENDI:g} different "
            "images (Vendi), or ended in an error, with the best settings that were found.", ""]


def section(found: Measured, data: str, picture: str | None) -> list[str]:
    """A set's figures."""
    lines = [f"## {NAMES[data]}", ""]
    references = [[f"*{name}*", "", "", *(number(of.get(j, {}).get(k), d) for j in JUDGES for k, d in BY_NETWORK),
                   number(of.get("wavelets", {}).get("fd"), 2), *(number(of.get("all", {}).get(k), d) for k, d in OF_ALL)]
                  for name, of in found.references.get(data, {}).items() if name != "machine"]
    rows = [[f"`{name}`{' (unable)' if found.is_unable(data, minutes, name, way) else ''}", f"{minutes:g}", words,
             *(span(found.values(data, minutes, name, way, j, k), d) for j in JUDGES for k, d in BY_NETWORK),
             span(found.values(data, minutes, name, way, "wavelets", "fd"), 2),
             *(span(found.values(data, minutes, name, way, "all", k), d) for k, d in OF_ALL)]
            for minutes in found.budgets(data) for name in found.players(data, minutes) for way, words in WAYS.items()
            if way == "plain" or any("chosen" in c for c in found.grid[data, minutes, name])]
    headings = ["player", "minutes", "draws", *(f"{k.upper() if len(k) == 2 else k}, {j}" for j in ("EfficientNet", "Inception") for k, _ in BY_NETWORK),
                "FD, wavelets", "duplicates", "Vendi", "sharpness, dB"]
    if not references and not rows:
        return [*lines, "Not measured yet.", ""]
    lines += [*table(headings, references + rows), *costs(found, data)]
    return [*lines, *([f"![samples on {NAMES[data]}]({picture})", "", "Plain draws of each player's first seed, the first ones, none of them "
                       "selected.", ""] if picture else [])]


def number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def costs(found: Measured, data: str) -> list[str]:
    """What each player took, and how it draws."""
    rows = []
    for minutes in found.budgets(data):
        for name in found.players(data, minutes):
            cells = [c for c in found.grid[data, minutes, name] if "failed" not in c]
            seeds = len(found.grid[data, minutes, name])
            if not cells:
                rows.append([f"`{name}`", f"{minutes:g}", f"{seeds}, all ended in an error", *["–"] * 7])
                continue
            rows.append([f"`{name}`", f"{minutes:g}", str(seeds), f"{cells[0]['parameters']:,}", f"{np.mean([c['steps'] for c in cells]):,.0f}",
                         f"{np.mean([c['images_seen'] for c in cells]):,.0f}",
                         f"{np.mean([c['training_seconds'] + c['fit_seconds'] for c in cells]):.0f}",
                         f"{np.mean([c['images_per_second'] for c in cells]):,.0f}",
                         f"{np.mean([c['choosing_seconds'] for c in cells]):.0f}", "; ".join(dict.fromkeys(drawn(c["sampling"]) for c in cells)),
                         ", ".join(dict.fromkeys(c["machine"]["processor"] for c in cells))])
    return table(["player", "minutes", "seeds", "parameters", "steps", "images seen", "processor s", "draws/s", "choosing s", "draws as chosen", "processor"], rows)


def drawn(sampling: dict[str, float | None]) -> str:
    """A way of drawing, in words."""
    words = [f"temperature {sampling['temperature']:g}"]
    words += [f"{sampling['keep']:.0%} kept"] if sampling["keep"] < 1 else []
    words += [f"refiner at {sampling['refine_temperature']:g}"] if sampling["refine_temperature"] is not None else []
    return "plain" if words == ["temperature 1"] else ", ".join(words)


def agreements(found: Measured) -> list[str]:
    """Whether networks put the players in the same order."""
    rows = []
    for data in NAMES:
        for minutes in found.budgets(data):
            of = {f: {n: float(np.mean(v)) for n in found.players(data, minutes)
                      if (v := found.values(data, minutes, n, "plain", f, "fd"))} for f in FEATURES}
            taus = [agreement(of[a], of[b]) for a, b in (FEATURES[:2], FEATURES[::2], FEATURES[1:])]
            rows.append([NAMES[data], f"{minutes:g}", str(len(of[FEATURES[0]])), *("–" if math.isnan(t) else f"{t:.2f}" for t in taus)])
    if not rows:
        return []
    return ["## Do the networks agree?", "", "Kendall's τ between the orders of players by mean FD of plain draws: 1 is the same order, 0 none, −1 reversed.", "",
            *table(["data", "minutes", "players", "EfficientNet, Inception", "EfficientNet, wavelets", "Inception, wavelets"], rows)]


def trials(found: Measured) -> list[str]:
    """Every setting that was tried."""
    rows = []
    for (data, name), of in found.tunings.items():
        last = max(t["seconds"] for t in of["trials"])
        for t in of["trials"]:
            told = ", ".join(f"{k} `{v}`" for k, v in t["settings"].items()) or "as the preset"
            chosen = "chosen" if t["number"] == of["chosen"] and t["seconds"] == last else ""
            rows.append([NAMES[data], f"`{name}`", str(t["number"]), f"{t['seconds']:g}", told,
                         f"{t['fd']:,.0f}" if "fd" in t else "ended in an error", str(t.get("steps", "–")), str(t.get("taken", "–")), chosen])
    if not rows:
        return []
    return ["## Trials", "", "Trial 0 is the paper's own setting. FD by EfficientNet to held-out training images; for a mixture "
            "twelve of the seconds are kept back, and what was taken in all is told.", "",
            *table(["data", "player", "setting", "seconds", "changes to the preset", "FD", "steps", "taken, s", ""], rows)]


def overran(found: Measured) -> list[str]:
    """Searches that took more than a twentieth beyond their budget, and how long they took."""
    told = []
    for (data, name), of in found.tunings.items():
        given, taken = (sum(t.get(k, 0) for t in of["trials"]) for k in ("seconds", "taken"))
        if taken > 1.05 * given:
            told.append(f"`{data}-{name}` ({taken:.0f} s in place of {given:g})")
    return told


def limits(scale: Scale) -> list[str]:
    return ["## What this cannot say", "",
            f"- Minutes of one core. GANs are given hours on a GPU where they shine; what holds at {scale.minutes[0]:g} minutes need not hold then.",
            f"- Searches are short, and favour what learns fast. {scale.rungs[0].settings} settings do not exhaust the ranges, and what is best after "
            f"{scale.rungs[-1].seconds:g} s need not be best after {scale.minutes[-1]:g} minutes.",
            "- Both networks are trained on ImageNet; wavelets are not, and are no judge of meaning. Inception is held in 8 bits, its lower half alone.",
            "- The presets of VAEs were designed in this project, with these sets at hand; those of GANs follow their papers, scaled down.",
            "- CIFAR-10 (recompressed) is a copy in JPEG, whose figures do not compare with published ones. faces64 is 10,000 cartoon faces drawn with "
            "DiceBear's \"adventurer\", of which the last 2,500 are test images.",
            "- Processor seconds depend on what else the machine does; steps are told beside them.", ""]
