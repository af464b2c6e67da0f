"""The published points of ViTok (arXiv 2501.09755) put to the questions of the field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

from analysis import figures, questions
from analysis.figures import Series
from analysis.fitting import fit
from analysis.published_tables import published
from analysis.questions import Answer, BestSize
from analysis.report.answers import optimum_text
from analysis.report.correlation import correlation
from analysis.report.decisions import Decision
from analysis.report.printed import COCO, FIG2, FIG5, FIG6, FIG10, IMAGENET, PRINTED
from analysis.report.studies import Refit, Sketch, Study, several
from analysis.style import plain

_NAMES = {
    "E": "bottleneck_floats", "c": "bottleneck_channels", "L": "bottleneck_tokens", "rFID": "rfid", "rIS": "ris",
    "PSNR": "psnr", "SSIM": "ssim", "rFID_of_tokenizer": "rfid",
}  # fmt: skip
_DATA = {IMAGENET: "ImageNet", COCO: "COCO", None: ""}
_SCALES = (1.5, 3.0)  # of classifier-free guidance
_FEATURES = "inception-torchvision"
_NEXT = 100e6


def vitok() -> Study:
    """Bottleneck sizes (Figs. 2 and 5) and encoder and decoder sizes (Figs. 6-9), 256 pixels."""
    sizes, generated, parts = _bottlenecks(), _generated(FIG5), _parts()
    found, refits = list(_found(sizes, generated, parts)), list(_refits())
    return Study(
        "vitok", "ViTok: what its published points say",
        f"The points of the figures of ViTok (arXiv 2501.09755), asked as a sweep of one's own would be: {len(sizes)} "
        f"measurements of reconstruction at sizes of the bottleneck from 256 to 65,536 floats, {len(generated) // 2} "
        f"tokenizers with a diffusion transformer trained on each, and {len(parts)} pairs of encoder and decoder.",
        found, list(_sketches(sizes, generated, parts, found)), refits, list(_limits(generated, parts, refits)),
        {FIG2: "Fig. 2: reconstruction against E", FIG5: "Fig. 5: generation against E",
         FIG6: "Figs. 6-9: encoder and decoder", FIG10: "Fig. 10: losses"},
    )  # fmt: skip


def _bottlenecks() -> pd.DataFrame:
    table = published(FIG2).rename(columns=_NAMES)
    names = {"imagenet1k_val_50k": "ImageNet", "coco2017_val_5k": "COCO"}
    return table.assign(dataset=table["dataset"].map(names), features=_FEATURES)


def _generated(name: str) -> pd.DataFrame:
    """One row for every tokenizer and CFG scale: ``gfid`` and ``gis`` at ``cfg_scale``."""
    table = published(name).rename(columns=_NAMES).assign(features=_FEATURES)
    rows = [table.assign(gfid=table[f"gFID_cfg{scale}"], gis=table[f"gIS_cfg{scale}"], cfg_scale=scale)
            for scale in _SCALES]  # fmt: skip
    long = pd.concat(rows, ignore_index=True)
    return long.assign(label=[f"p{p} c{c}" for p, c in zip(long["patch"], long["bottleneck_channels"], strict=True)])


def _parts() -> pd.DataFrame:
    table = published(FIG6).rename(columns=_NAMES).assign(features=_FEATURES)
    return table.assign(encoder_params=1e6 * table["enc_params_M"], decoder_params=1e6 * table["dec_params_M"])


def _at(scale: float) -> str:
    return f"cfg_scale == {scale}"


def _found(sizes: pd.DataFrame, generated: pd.DataFrame, parts: pd.DataFrame) -> Iterator[Decision]:
    best = partial(questions.best_bottleneck, generated)
    yield several("Best bottleneck", best("gfid", by=("cfg_scale",)), best("gis", by=("cfg_scale",)))
    yield several("Best bottleneck at each patch size", best("gfid", by=("cfg_scale", "patch")))
    grown = partial(questions.size_effect, sizes, size="bottleneck_floats", by="dataset", within=())
    yield several("Bottleneck and reconstruction", *(grown(y) for y in ("rfid", "psnr", "ssim")))
    yield several("Reconstruction and generation", *(
        correlation(generated[generated["cfg_scale"] == scale], "rfid", "gfid", note=f"CFG scale {scale:g}")
        for scale in _SCALES
    ))  # fmt: skip
    samples = _generated(FIG6).assign(
        encoder_params=lambda t: 1e6 * t["enc_params_M"], decoder_params=lambda t: 1e6 * t["dec_params_M"]
    )
    for size, other, heading in (
        ("decoder_params", "encoder", "Decoder size"), ("encoder_params", "decoder", "Encoder size"),
    ):  # fmt: skip
        effect = partial(questions.size_effect, size=size, within=(other,))
        yield several(heading, *(effect(parts, y) for y in ("rfid", "psnr", "ssim")),
                      effect(samples, "gfid", by="cfg_scale"))  # fmt: skip
    yield several("The next 100 M parameters", _spent(parts, "rfid"), _spent(parts, "psnr"))
    for scale in _SCALES:
        yield several(f"The next 100 M parameters, CFG scale {scale:g}", _spent(samples, "gfid", _at(scale)))
    for scale in _SCALES:
        front = questions.pareto_front(generated, "rfid", "gfid", where=_at(scale))
        yield several(f"The front, CFG scale {scale:g}", front)


def _spent(rows: pd.DataFrame, y: str, where: str | None = None) -> Answer:
    return questions.where_to_spend(rows, y, _NEXT, within=(), where=where)


def _sketches(
    sizes: pd.DataFrame, generated: pd.DataFrame, parts: pd.DataFrame, found: Sequence[Decision]
) -> Iterator[Sketch]:  # fmt: skip
    x = "bottleneck_floats"
    for y, law, shown in (("rfid", "power", "rFID"), ("psnr", "semilog", "PSNR"), ("ssim", "semilog", "SSIM")):
        series = [Series(f"{name}", rows, fit(rows, law=law, x=x, y=y)) for name, rows in sizes.groupby("dataset")]
        yield Sketch(
            f"vitok-{y}", partial(figures.scaling_curve, series, x=x, y=y),
            f"{shown} of 15 tokenizers against the size E of their bottleneck, on ImageNet and on COCO, with laws.",
            "Fig. 2. Points of one E differ in patch size and channels.",
        )  # fmt: skip
    best = [one for one in found[0].answers + found[1].answers if isinstance(one, BestSize) and one.y == "gfid"]
    for groups, what in (
        ([one for one in best if "patch" not in one.group], "by CFG scale"),
        ([one for one in best if one.group.get("patch") and one.group["cfg_scale"] == _SCALES[0]],
         f"by patch size, CFG scale {_SCALES[0]}"),
    ):  # fmt: skip
        yield Sketch(
            f"vitok-gfid-{'patch' if 'patch' in what else 'scale'}",
            partial(figures.optimum, groups, table=generated),
            f"gFID against the size E of the bottleneck {what}, with parabolas in log E.",
            f"Fig. 5, {what}. A bar above the panel is the interval of the best size; without a bar none is resolved.",
        )
    for scale in _SCALES:
        rows = generated[generated["cfg_scale"] == scale]
        yield Sketch(
            f"vitok-plane-cfg{10 * scale:.0f}",
            partial(figures.plane, rows, x="rfid", y="gfid", by=("patch",), size=x, label="label"),
            f"gFID at CFG scale {scale:g} against the rFID of {len(rows)} tokenizers, arrows from E to E.",
            f"Figs. 2 and 5, CFG scale {scale:g}. Better is down and to the left; arrows lead to larger E.",
        )
    for z, shown in (("rfid", "rFID"), ("psnr", "PSNR"), ("gFID_cfg1.5", "gFID at CFG scale 1.5")):
        yield Sketch(
            f"vitok-parts-{z.partition('_')[0]}",
            partial(figures.heatmap, parts, z=z),
            f"{shown} for each of the 7 pairs of encoder and decoder sizes that were trained.",
            f"Figs. 6-9: {shown}, one training a cell; hatched pairs were not trained.",
        )


def _refits() -> Iterator[Refit]:
    for one in PRINTED:
        found = one.refit()
        what = f"{found.y} against {one.x}{_DATA[one.where] and ', ' + _DATA[one.where]}"
        yield Refit(one.figure, what, found, one.r2)


def _limits(generated: pd.DataFrame, parts: pd.DataFrame, refits: Sequence[Refit]) -> Iterator[str]:
    yield (
        "Every point is one training; no seed was repeated and no error bar is printed. The intervals here say how "
        "well the points follow a law, not how far a repeated training would move them."
    )
    yield (
        "FIDs and Inception scores were taken with torchvision's Inception v3, not with the TensorFlow network of "
        "2015: they are not on the scale of GigaTok's, LlamaGen's or DiT's."
    )
    first, second = (generated[generated["cfg_scale"] == scale].set_index("label")["gfid"] for scale in _SCALES)
    yield (
        f"The two CFG scales were fixed, not searched, and they disagree: the tokenizer that is best at {_SCALES[0]:g} "
        f"({first.idxmin()}) is number {int(second.rank()[first.idxmin()])} of {len(second)} at {_SCALES[1]:g}. A best "
        "size holds for its guidance only."
    )
    turns = next(one.fit.optimum for one in refits if one.what.startswith(f"log2 gFID_cfg{_SCALES[0]} against E"))
    if turns is not None:
        yield (
            f"A parabola through all sizes, as the paper draws it, puts the best size at CFG scale {_SCALES[0]:g} at "
            f"{optimum_text(turns)} floats. That interval, like the answer above, takes the parabola for true: a "
            "valley, a law of another shape that AICc gives hardly any weight at 14 points, does not turn for certain."
        )
    same = generated[(generated["cfg_scale"] == _SCALES[0]) & (generated["bottleneck_floats"] == 4096)]
    yield (
        f"E alone does not tell generation: at E = 4,096 gFID lies between {plain(same['gfid'].min())} and "
        f"{plain(same['gfid'].max())} by patch size and channels. A parabola through all sizes pools them."
    )
    rfid = {(row["encoder"], row["decoder"]): plain(row["rfid"]) for _, row in parts.iterrows()}
    yield (
        f"The gain of the largest decoder rests on one training: rFID falls from {rfid['S', 'B']} (decoder B) to "
        f"{rfid['S', 'L']} (L) with encoder S, and goes from {rfid['B', 'B']} to {rfid['B', 'L']} with encoder B. "
        "Seven pairs are too few to tell a law of diminishing returns from a straight one."
    )
    yield (
        "rFID at the largest E is 0.009: the network compares an image with nearly itself, and that point pulls the "
        "exponent of the power law (see the warnings of the refits)."
    )
    yield "Text and figure disagree on gFID of p16 c16 at CFG scale 1.5: 5.5 in Section 3.4, 6.13 in Fig. 5."
    yield (
        "The training images were 450 M of a private collection and ImageNet: a sweep on ImageNet alone will differ in "
        "height; compare slopes."
    )
