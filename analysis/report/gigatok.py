"""The published points of GigaTok (arXiv 2504.08736) put to the questions of the field."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import pandas as pd

from analysis import figures, questions
from analysis.figures import Series
from analysis.fitting import Fit, fit
from analysis.published_tables import published
from analysis.report.correlation import correlation, of_r
from analysis.report.decisions import Decision
from analysis.report.studies import Observation, Refit, Sketch, Study, several
from analysis.style import plain

FIG7, FIG5, FIG6 = (
    "gigatok_fig3_fig7_semreg_scaling", "gigatok_fig5_entropy_loss", "gigatok_fig6_ar_probe_correlation",
)  # fmt: skip
TABLE10 = "gigatok_table10_full_results"
SIZE, SETTING = "tokenizer_params", "regularisation"
_LAWS = {"rfid": "power", "lpips": "power", "gfid": "power", "ar_loss": "semilog", "ar_linear_accuracy": "semilog"}
_NAMES = {
    "rFID": "rfid", "LPIPS": "lpips", "PSNR": "psnr", "SSIM": "ssim", "ar_probe_gFID": "gfid", "gFID": "gfid",
    "ar_probe_val_loss": "ar_loss", "model": "label", "semantic_regularization": SETTING,
}  # fmt: skip
_SUFFIX = {"M": 1e6, "B": 1e9}


def gigatok() -> Study:
    """Tokenizer size with and without semantic regularisation (Figs. 3 and 7), the full results, entropy loss."""
    scaled, full, entropy = _scaled(), _full(), published(FIG5)
    return Study(
        "gigatok", "GigaTok: what its published points say",
        "The points of GigaTok (arXiv 2504.08736), asked as a sweep of one's own would be: three sizes of tokenizer, "
        f"136 M to 622 M parameters, with and without semantic regularisation, and {len(full)} sizes up to 2.9 B with "
        "it; vector quantisation of 256 tokens, 256 pixels, an autoregressive probe of 111 M parameters on each.",
        list(_found(scaled, full, entropy)), list(_sketches(scaled, full, entropy)), list(_refits(scaled, full)),
        list(_limits(scaled)),
        {FIG7: "Figs. 3 and 7: size and semantic regularisation", TABLE10: "Table 10: full results",
         FIG5: "Fig. 5: entropy loss", FIG6: "Fig. 6: probe against large model"},
    )  # fmt: skip


def _scaled() -> pd.DataFrame:
    table = published(FIG7).rename(columns=_NAMES).assign(features="inception-tf2015")
    table[SETTING] = ["off" if text == "without" else "on" for text in table[SETTING]]
    table["ar_linear_accuracy"] = table["ar_probe_lin_acc_pct"] / 100
    return table.assign(**{SIZE: 1e6 * table["params_M"]})


def _full() -> pd.DataFrame:
    """The GigaTok rows of Table 10 that differ in the tokenizer's size alone: one AR model, one discriminator."""
    table = published(TABLE10)
    table = table[table["tokenizer"].str.startswith("GigaTok") & (table["ar_params"] == "111M") & table["note"].isna()]
    table = table.rename(columns=_NAMES).assign(features="inception-tf2015")
    sizes = [float(text[:-1]) * _SUFFIX[text[-1]] for text in table["tokenizer_params"]]
    labels = table["tokenizer"].str.removeprefix("GigaTok-")
    return table.assign(**{SIZE: sizes, "label": labels, "ar_linear_accuracy": table["lin_acc_pct"] / 100})


def _found(scaled: pd.DataFrame, full: pd.DataFrame, entropy: pd.DataFrame) -> Iterator[Decision]:
    effect = partial(questions.size_effect, scaled, size=SIZE, by=SETTING, within=())
    whole = partial(questions.size_effect, full, size=SIZE, within=())
    yield several("Tokenizer size and reconstruction", effect("rfid"), effect("lpips"))
    yield several("Tokenizer size and generation", effect("gfid"), effect("ar_loss"), effect("ar_linear_accuracy"))
    yield several("Up to 2.9 B parameters, regularised", *(
        whole(y) for y in ("rfid", "lpips", "psnr", "gfid", "ar_linear_accuracy")
    ))  # fmt: skip
    mended = partial(questions.cure, scaled, size=SIZE, setting=SETTING, off="off", on="on", match=(SIZE,))
    yield several("Does regularisation mend the size?", mended("gfid"), mended("ar_loss"))
    pair = partial(questions.paired_effect, scaled, setting=SETTING, first="off", second="on", match=("label",))
    yield several("Semantic regularisation", *(
        pair(y) for y in ("rfid", "lpips", "gfid", "ar_loss", "ar_linear_accuracy")
    ))  # fmt: skip
    tells = partial(correlation, scaled, y="gfid")
    yield several("What the probing loss tells", tells("ar_loss", note="both series pooled"),
                  tells("ar_loss", within=(SETTING,)), tells("ar_linear_accuracy", within=(SETTING,)))  # fmt: skip
    yield several("What the small probe tells of a large model", *_validity())
    yield several("Entropy loss", _entropy(entropy))


def _validity() -> Iterator[Observation]:
    """Fig. 6 prints R2 over three tokenizers; the sign is that of its axes."""
    for _, row in published(FIG6).iterrows():
        found = of_r(math.sqrt(row["R2"]), 3, "", "")
        yield Observation(
            f"{row['metric']} of the 111 M probe against that of {row['large_model']}: the paper prints R2 = "
            f"{row['R2']:.2f} over three tokenizers; with one degree of freedom that is a two-sided p = {found.p:.2g}, "
            f"so a relation is {'' if found.resolved else 'not '}resolved by it.",
            found.resolved,
        )


def _entropy(table: pd.DataFrame) -> Observation:
    last = table[table["iter_k_window_centre"] == table["iter_k_window_centre"].max()]
    usage = {str(row["entropy_loss"]).split()[0]: float(row["codebook_usage"]) for _, row in last.iterrows()}
    return Observation(
        f"Codebook usage of the 2.9 B tokenizer after {last['iter_k_window_centre'].iloc[0]} k iterations is "
        f"{plain(usage['with'], 2)} with the entropy loss and {plain(usage['without'], 2)} without it; one training "
        "each, so what a repeat would give, and an interval, are unknown."
    )


def _sketches(scaled: pd.DataFrame, full: pd.DataFrame, entropy: pd.DataFrame) -> Iterator[Sketch]:
    shown = {"rfid": "rFID", "gfid": "gFID", "ar_loss": "AR probing loss", "ar_linear_accuracy": "linear accuracy"}
    for y, name in shown.items():
        series = [Series(f"regularisation {value}", rows, one) for value, rows, one in _fits(scaled, y)]
        yield Sketch(
            f"gigatok-{y}", partial(figures.scaling_curve, series, x=SIZE, y=y, bands=False),
            f"{name} of three sizes of tokenizer, with and without semantic regularisation, each with its law.",
            "Figs. 3 and 7. Three points leave one degree of freedom: bands would fill the panel; see the refits.",
        )  # fmt: skip
    yield Sketch(
        "gigatok-plane",
        partial(figures.plane, scaled, x="rfid", y="gfid", by=(SETTING,), size=SIZE, label="label"),
        "gFID against rFID of six tokenizers, an arrow from each size to the next.",
        "Arrows lead to larger tokenizers: without regularisation they turn up, to better reconstruction and worse "
        "generation.",
    )
    yield Sketch(
        "gigatok-loss-gfid",
        partial(figures.plane, scaled, x="ar_loss", y="gfid", by=(SETTING,), size=SIZE, label="label"),
        "gFID against the probing loss of six tokenizers.",
        "What the loss of the small probe tells of the images that it generates.",
    )
    for y in ("gfid", "ar_linear_accuracy"):
        yield Sketch(
            f"gigatok-full-{y}",
            partial(figures.scaling_curve, [Series("", full, _fit(full, y))], x=SIZE, y=y),
            f"{shown[y]} of {len(full)} regularised tokenizers from 136 M to 2.9 B parameters, with its law.",
            "Table 10, the AR model of 111 M parameters on each, trained longer than in Fig. 7.",
        )
    frame = entropy.assign(trial="entropy loss " + entropy["entropy_loss"], step=1000 * entropy["iter_k_window_centre"])
    yield Sketch(
        "gigatok-entropy",
        partial(figures.losses, frame, y="codebook_usage", x="step", half_life=0, logarithmic=False),
        "Codebook usage of the 2.9 B tokenizer over its training, with and without the entropy loss.",
        "Fig. 5, means of windows of one training each.",
    )


def _fits(table: pd.DataFrame, y: str) -> Iterator[tuple[str, pd.DataFrame, Fit]]:
    for value, rows in table.groupby(SETTING):
        yield str(value), rows, _fit(rows, y)


def _fit(rows: pd.DataFrame, y: str) -> Fit:
    found = fit(rows, law=_LAWS[y], x=SIZE, y=y)
    assert isinstance(found, Fit)
    return found


def _refits(scaled: pd.DataFrame, full: pd.DataFrame) -> Iterator[Refit]:
    names = {"rfid": "rFID", "lpips": "LPIPS", "gfid": "gFID", "ar_loss": "AR probing loss",
             "ar_linear_accuracy": "AR linear accuracy"}  # fmt: skip
    for y, name in names.items():
        for value, _, one in _fits(scaled, y):
            yield Refit("Figs. 3, 7", f"{name} against tokenizer parameters, regularisation {value}", one)
    for y, name in names.items():
        if y in full:
            yield Refit("Table 10", f"{name} against tokenizer parameters, regularised", _fit(full, y))


def _limits(scaled: pd.DataFrame) -> Iterator[str]:
    yield (
        "Each series has three sizes, so a law of two parameters leaves one degree of freedom and Student's interval "
        "is twelve standard errors wide to each side. What the figures show clearly to the eye is not resolved in this "
        "strict sense; a second seed of each point would resolve it."
    )
    yield "Every point is one training; no seed was repeated and no error bar is printed."
    yield (
        "Pairs of equal size with and without regularisation share their recipe, so their differences are the firmest "
        "numbers here; still they are three."
    )
    yield (
        "Training grew with size (100, 200 and 200 epochs for S-S, S-B and B-L; 300 for XL-XXL), and encoder and "
        "decoder grew together: an effect of size is one of all three."
    )
    extra = {"S-S": 6.82, "S-B": 14.16, "B-L": 24.13}
    yield (
        "Published sizes count the projection head that only training needs ("
        + ", ".join(f"{extra[label]} M in {label}" for label in dict.fromkeys(scaled["label"]))
        + "); tokscale counts such parameters apart."
    )
    yield (
        "The points of Figs. 3, 5 and 7 were digitised from pictures, good to about three digits; those of Figs. 6, 12 "
        "and 13 could not be read at all."
    )
    yield (
        "The probing loss compares only tokenizers of one vocabulary and length, as these are; FIDs are those of the "
        "TensorFlow network of 2015 against other reference images than ViTok's: their FIDs share no axis."
    )
