"""From the figures of the cells to those of the report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from benchmarks.adaptation.experiment import BASE, Figures
from benchmarks.adaptation.ladder import KEEPS_PRIOR, SCRATCH, Ladder
from benchmarks.adaptation.measures import distance_closed
from benchmarks.report import Figure, Report
from training.evaluation.intervals import bootstrap

JUDGE = "convolutional"
FEW = 5
"""Images of each label that a few-shot figure counts."""
PRIOR_HELPS = 100
"""Images of each label at which adapting has to beat a training from nothing."""
COVERED = 0.7
"""Share of the floor's coverage from which findings count: a model that draws one image well covers nothing."""
TOLD = {
    "copies": ("share", None, None),
    "validation_loss": ("", None, None),
    f"{JUDGE}_finding_agreement_points": ("points", None, None),
    f"{JUDGE}_finding_logit_distance": ("", None, None),
    f"{JUDGE}_finding_logit_distance_real": ("", None, None),
    f"{JUDGE}_coverage_of_floor": ("share", None, None),
    f"{JUDGE}_recognised_trained": ("share", None, None),
    f"{JUDGE}_recognised_held_out": ("share", None, None),
    f"{JUDGE}_recognised_negation": ("share", None, None),
    "probe_recognised_trained": ("share", None, None),
    "probe_coverage_of_floor": ("share", None, None),
    "probe_finding_agreement_points": ("points", None, None),
    "probe_finding_logit_distance": ("", None, None),
    "recognised_no_copies": ("share", None, None),
    "downstream_accuracy_real": ("share", None, None),
    "downstream_accuracy_generated_first": ("share", None, None),
    "seconds": ("s", None, None),
}
"""What is told of each cell: unit, must, aim."""


def summarised(ladder: Ladder, results: Mapping[str, Figures]) -> Report:
    """A report of everything that was measured on a ladder; the mean of the seeds, with their range as bounds."""
    report = Report(f"adaptation-{ladder}")
    own = {name: figures for name, figures in results.items() if name.startswith(f"{ladder}/")}
    base = own.pop(f"{ladder}/{BASE}", {})
    if (value := base.get("colour_leak")) is not None:
        report.add(f"{ladder}_base_colour_leak", Figure(value, "of 255"))
    groups: dict[str, list[Figures]] = {}
    for name, figures in own.items():
        groups.setdefault(name.rpartition("/")[0], []).append(figures)
    for group, seeds in sorted(groups.items()):
        _tell(report, group, seeds, base)
    sizes = {group.rpartition("/")[2] for group in groups}
    for size in sorted(sizes):
        _tell_prior(report, ladder, size, groups)
    _tell_few(report, ladder, groups)
    _tell_best(report, ladder, sizes, groups, base)
    _tell_paper(report, ladder, sizes, groups)
    return report


def of_canaries(ladder: Ladder, figures: Figures) -> Report:
    """The exposure of planted images, of the recipe as it ships and over-trained on purpose."""
    report = Report(f"adaptation-{ladder}-canaries")
    report.add(f"{ladder}_canary_auc", Figure(figures["canary_auc"], "AUC", must="<= 0.6", aim="<= 0.5"))
    seen = figures["canary_auc_overtrained"]
    report.add(f"{ladder}_canary_auc_overtrained", Figure(seen, "AUC", must=">= 0.9"))
    return report


def of_regret(ladder: Ladder, figures: Figures) -> Report:
    """What the kept checkpoint lost."""
    report, lost = Report(f"adaptation-{ladder}-regret"), figures["best_checkpoint_regret"]
    report.add(f"{ladder}_best_checkpoint_regret", Figure(lost, "ratio", must="<= 1.1", aim="<= 1.0"))
    for name, value in figures.items():
        if name.startswith("kid_"):
            report.add(f"{ladder}_regret_{name}", Figure(value, ""))
    return report


def of_ratings(ladder: Ladder, seeds: Sequence[Figures]) -> Report:
    """What verdicts add to few images: paired differences of the seeds, with the bootstrap's interval over them."""
    report = Report(f"adaptation-{ladder}-ratings")
    for name, what, must in (
        ("ratings_beside_few_images_points", "plausible", ">= 10"),
        ("ratings_beside_few_images_coverage_points", "coverage", ">= -2"),
    ):
        changes = [100 * ((one[f"{what}_rated"] or 0.0) - (one[f"{what}_alone"] or 0.0)) for one in seeds]
        low, high = bootstrap(changes, np.mean) if len(changes) > 1 else (None, None)
        report.add(f"{ladder}_{name}", Figure(float(np.mean(changes)), "points", low, high, must))
    for figure in ("plausible_alone", "plausible_rated", "coverage_alone", "coverage_rated"):
        report.add(f"{ladder}_ratings_{figure}", _over(_known(seeds, figure), "share"))
    report.add(f"{ladder}_ratings_accepted", _over(_known(seeds, "accepted"), "images"))
    return report


def _tell_few(report: Report, ladder: str, groups: Mapping[str, Sequence[Figures]]) -> None:
    """Of five images a label: the recipe that is recognised best, on drawings that are no copies, and its copies."""
    few = {
        group: seeds for group, seeds in groups.items() if group.endswith(f"/{FEW}") and SCRATCH not in group
    }
    known = {group: _known(seeds, "recognised_no_copies") for group, seeds in few.items()}
    if not any(known.values()):
        return
    best = max((group for group in known if known[group]), key=lambda group: float(np.mean(known[group])))
    report.add(f"{ladder}_few_shot_recognised", _over(known[best], "share", ">= 0.75", ">= 0.9"))
    if by_probe := _known(few[best], "probe_recognised_trained"):
        report.add(f"{ladder}_few_shot_recognised_by_probe", _over(by_probe, "share"))
    report.add(f"{ladder}_few_shot_copies", _over(_known(few[best], "copies"), "share", "<= 0.05", "<= 0.01"))


def _tell_best(
    report: Report,
    ladder: str,
    sizes: Collection[str],
    groups: Mapping[str, Sequence[Figures]],
    base: Figures,
) -> None:
    """The adapted recipe of the lowest validation loss at the most images: how near its drawings are to real ones.
    Findings count where they cover enough."""
    most = _most(sizes)
    own = {
        g: _known(seeds, "validation_loss")
        for g, seeds in groups.items()
        if g.endswith(f"/{most}") and SCRATCH not in g
    }
    if not any(own.values()):
        return
    best = groups[min((g for g in own if own[g]), key=lambda g: float(np.mean(own[g])))]
    closed = [value for one in best if (value := _closed(one, base)) is not None]
    if closed:
        report.add(f"{ladder}_distance_closed", _over(closed, "share", ">= 0.8", ">= 0.95"))
    if _known(best, f"{JUDGE}_coverage_of_floor") and _mean(best, f"{JUDGE}_coverage_of_floor") >= COVERED:
        apart = [abs(value) for value in _known(best, f"{JUDGE}_finding_agreement_points")]
        report.add(f"{ladder}_finding_agreement_points", _over(apart, "points from real", "<= 2", "<= 1"))
        distances = _known(best, f"{JUDGE}_finding_logit_distance")
        report.add(f"{ladder}_finding_logit_distance", _over(distances, "", "<= 0.15", "<= 0.08"))


def _most(sizes: Collection[str]) -> str:
    """The largest number of images that was measured."""
    return "all" if "all" in sizes else max(sizes, key=int, default="")


def _tell_paper(
    report: Report, ladder: str, sizes: Collection[str], groups: Mapping[str, Sequence[Figures]]
) -> None:
    """The paper's own figure: of prompted findings the share that a classifier of real images finds, by the best recipe
    of the most images; beside it what it finds on real ones. More than real is caricature."""
    most = _most(sizes)
    own = {group: _known(seeds, f"{JUDGE}_findings_found") for group, seeds in groups.items()
           if group.endswith(f"/{most}") and SCRATCH not in group}  # fmt: skip
    if ladder != "far" or not any(own.values()):
        return
    best = max((group for group in own if own[group]), key=lambda group: float(np.mean(own[group])))
    report.add("paper_figure", _over(own[best], "share", ">= 0.95"))
    report.add("paper_figure_on_real", _over(_known(groups[best], f"{JUDGE}_findings_found_real"), "share"))


def _known(seeds: Sequence[Figures], figure: str) -> list[float]:
    """A figure of every seed that has it."""
    return [value for one in seeds if (value := one.get(figure)) is not None]


def _tell(report: Report, group: str, seeds: Sequence[Figures], base: Figures) -> None:
    ladder, recipe, _ = group.split("/")
    name, kept_asked = group.replace("/", "_").replace("-", "_"), recipe in KEEPS_PRIOR
    if ladder == "far" and (leak := _known(seeds, "colour_leak")):  # the cells of the near ladder are stained
        report.add(f"{name}_colour_leak", _over(leak, "of 255", "<= 1", "<= 0.2"))
    for figure, (unit, must, aim) in TOLD.items():
        if values := [one[figure] for one in seeds if one.get(figure) is not None]:
            report.add(f"{name}_{figure}", _over(values, unit, must, aim))  # type: ignore[arg-type]
    closed = [_closed(one, base) for one in seeds]
    if known := [value for value in closed if value is not None]:
        report.add(f"{name}_distance_closed", _over(known, "share"))
    kept = [_share(one.get("known_recognised"), base.get("known_recognised")) for one in seeds]
    if known := [value for value in kept if value is not None]:
        report.add(
            f"{name}_kept_after_adapting", _over(known, "share", *((">= 0.95", ">= 1") if kept_asked else ()))
        )
    covered = [_share(one.get("known_coverage"), base.get("known_coverage")) for one in seeds]
    if known := [value for value in covered if value is not None]:
        report.add(
            f"{name}_kept_coverage", _over(known, "share", *((">= 0.9", ">= 1") if kept_asked else ()))
        )
    _tell_change(report, f"{name}_authenticity_change", f"{JUDGE}_authenticity_change", seeds)
    _tell_change(report, f"{name}_downstream_gain", "downstream_gain", seeds)
    unseen = [_ratio(one, "held_out", "trained") for one in seeds]
    if known := [value for value in unseen if value is not None]:
        report.add(f"{name}_unseen_wording_of_seen", _over(known, "share", ">= 0.9", ">= 1"))


def _tell_change(report: Report, name: str, figure: str, seeds: Sequence[Figures]) -> None:
    """Points with an interval, the means over the seeds; and the bound that the answer depends on as a figure of its
    own: whether no fewer drawings than real images are authentic, whether the gain is more than nothing."""
    bounds = [_known(seeds, f"{figure}{part}_points") for part in ("", "_low", "_high")]
    if not all(bounds):
        return
    value, low, high = (float(np.mean(values)) for values in bounds)
    gain = figure == "downstream_gain"
    report.add(f"{name}_points", Figure(value, "points", low, high, aim=">= 5" if gain else None))
    if gain:
        report.add(f"{name}_low_points", Figure(low, "points", must="> 0"))
    else:
        report.add(f"{name}_high_points", Figure(high, "points", must=">= 0"))


def _tell_prior(report: Report, ladder: str, size: str, groups: Mapping[str, Sequence[Figures]]) -> None:
    """What the base brought: the adapted U-Net of the lowest validation loss beside a training from nothing, at equal
    compute, in findings recognised and in coverage."""
    scratch = groups.get(f"{ladder}/{SCRATCH}/{size}")
    adapted = [
        seeds
        for group, seeds in groups.items()
        if group.endswith(f"/{size}") and "/unet" in group and _known(seeds, "validation_loss")
    ]
    if not scratch or not adapted:
        return
    best = min(adapted, key=lambda seeds: _mean(seeds, "validation_loss"))
    asked = ("> 0", ">= 10") if size == str(PRIOR_HELPS) else ()
    for name, figure in (
        ("prior_gain_points", f"{JUDGE}_recognised_trained"),
        ("prior_gain_coverage_points", f"{JUDGE}_coverage_of_floor"),
    ):
        if _known(best, figure) and _known(scratch, figure):
            gain = 100 * (_mean(best, figure) - _mean(scratch, figure))
            report.add(f"{ladder}_{name}_{size}", Figure(gain, "points", None, None, *asked))


def _closed(one: Figures, base: Figures) -> float | None:
    values = [base.get(f"{JUDGE}_fid"), one.get(f"{JUDGE}_fid"), one.get(f"{JUDGE}_fid_real")]
    return None if None in values else distance_closed(*values)  # type: ignore[arg-type]


def _ratio(one: Figures, above: str, below: str) -> float | None:
    return _share(*(one.get(f"{JUDGE}_recognised_{kind}") for kind in (above, below)))


def _share(top: float | None, bottom: float | None) -> float | None:
    return None if top is None or not bottom else top / bottom


def _mean(seeds: Sequence[Figures], figure: str) -> float:
    return float(np.mean(_known(seeds, figure)))


def _over(values: Sequence[float], unit: str, must: str | None = None, aim: str | None = None) -> Figure:
    """The mean of the seeds. Few seeds have no interval: the bounds are the least and the greatest."""
    low, high = (min(values), max(values)) if len(values) > 1 else (None, None)
    return Figure(float(np.mean(values)), unit, low, high, must, aim)
