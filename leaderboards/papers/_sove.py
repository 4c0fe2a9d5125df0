"""What the tables of SOVE are put together from: columns, rows, and notes on garbled cells.

The paper follows iBOT's scripts: best k, head and epoch are chosen on val.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from leaderboards.paper import ALL, MINI_TUNING, Column, Row, Score, cells, mini

Switches = Mapping[str, object]

OBJECTS = "mini_objects"
MINI_DEIT = mini("deit", data=OBJECTS)
PRESETS = {"ViT-B/16": "vit_base", "ViT-L/16": "vit_large", "Swin-T/14": "swin_tiny"}
# What the analyses switch. A switch at its default is left out at paper scale, and all are written
# at mini scale, so that a model that stands in several tables has one spec.
DEFAULTS: Switches = {
    "anchors": 8192,
    "patch_anchors": 512,
    "judges": 9,
    "patch_judges": 1,
    "tasks": 4,
    "patch_tasks": 4,
    "momentum": 0.996,
}
MINI_DEFAULTS: Switches = {**DEFAULTS, "anchors": 128, "patch_anchors": 128, "momentum": 0.98}
NONE: Switches = {}
MINI_TWO_CROP: Switches = {"local_crops": 0, "global_area": "0.14:1.0"}

# Notes on cells

CASCADE = dict.fromkeys(
    (0, 1), "text says Mask R-CNN, Table A.2 says Cascade Mask R-CNN (iBOT protocol: Cascade)"
)
MISLABELLED = {
    ALL: "uncertain: this row equals BEiT's numbers in Table 2 (43.5 / 27.4 / 45.8); it is most "
    "likely the BEiT row mislabelled DINO"
}
GARBLED = "uncertain: Table 5 is garbled (several cells lost); "
INFERRED = GARBLED + "row assignment inferred"
LOST = GARBLED + "lost"
AT_MOST = LOST + "; text says up to +3.2 over the best "


def suspect(value: str) -> str:
    """The note on a lost cell whose value is remembered."""
    return f"{LOST}; suspected {value}, remembered from the MaSSL paper"


# Why a row's number is not compared

FOREIGN = "protocol: the number is from the method's own paper, which probes otherwise"
TOKENIZER = "tokenizer: a codebook of patches stands in for DALL-E's"
REFERENCE = "model: the paper does not say which network this is; DeiT stands in"
UNSAID = "setting: the defaults of this table are not said; those of Table B.3 give 70.2"

# Columns


def imagenet(task: str, spec: str, metric: str = "top1", small: str = "") -> Column:
    """Top-1 on ImageNet, and on the mini benchmark's objects: `{}` stands for the data set."""
    score = Score(spec.format("imagenet1k"), metric, (small or spec).format(OBJECTS))
    return Column(task=f"ImageNet {task}", metric="top-1", measure=score)


def fine_tuned(percent: int) -> Column:
    """Fine-tuning on a share of the labels."""
    data = f"semi@{{}}[list={percent}percent.txt]"
    small = f"{data}?batch=32&epochs=20&{MINI_TUNING}"
    return imagenet(f"{percent}% fine-tune", f"{data}?selection=test&eval_every=1", small=small)


def transfer(task: str, data: str, small: str = "") -> Column:
    """Fine-tuning on a smaller data set."""
    spec = f"transfer@{data}?selection=test&eval_every=1"
    mini_spec = small and f"transfer@{small}?batch=64&epochs=5&{MINI_TUNING}"
    score = Score(spec, "top1", mini_spec)
    return Column(task=f"{task} fine-tune", metric="top-1", measure=score)


def video(metric: str, stored: str) -> Column:
    """Masks carried through DAVIS; published numbers move by .3 with the version of torch."""
    score = Score("davis@davis2017", stored, "davis@mini_davis?multiple=4&size_px=48")
    task = "DAVIS-2017 video object segmentation"
    return Column(task=task, metric=metric, measure=score, tolerance=0.3)


def retrieval(name: str, level: str, data: str, small: str = "") -> Column:
    """Mean average precision of whole queries, as DINO's and iBOT's scripts take them."""
    spec = "retrieval@{}?query_crop=false"
    score = Score(spec.format(data), f"map_{level.lower()}", small and spec.format(small))
    return Column(task=f"{name} {level} retrieval (frozen k-NN)", metric="mAP", measure=score)


def background(variant: str, stored: str) -> Column:
    """A variant of ImageNet-9, under the linear head of Table 1."""
    spec = "imagenet9@imagenet9?protocol=linear_dino&selection=test"
    task = f"ImageNet-9 backgrounds challenge {variant}"
    return Column(task=task, metric="top-1", measure=Score(spec, stored, "imagenet9@mini_in9"))


def coco(task: str, metric: str, stored: str) -> Column:
    """iBOT's Cascade Mask R-CNN of 12 epochs."""
    score = Score("detection@coco?head=cascade", stored)
    return Column(task=f"COCO {task}", metric=metric, measure=score)


def ade(task: str, head: str, metric: str = "mIoU") -> Column:
    """iBOT's segmentation: a linear layer on frozen patches, or UperNet."""
    spec = f"segmentation@ade20k?head={head}" + ("&frozen=true" if head == "linear" else "")
    score = Score(spec, metric.lower(), "segknn@mini_ade?size_px=32")
    return Column(task=f"ADE20K {task}", metric=metric, measure=score)


KNN = imagenet("k-NN", "knn@{}", "best_top1")
LINEAR = imagenet(
    "linear probe", "linear@{}?protocol=linear_dino&selection=test", small="linear@{}"
)

# Rows


def row(label: str, line: str, arch: str = "ViT-B/16", epochs: str = "", **fields: Any) -> Row:
    """A model that is trained here, with its method's preset for the architecture.

    At mini scale all architectures are one small ViT. `fields` are others of the row, or replace
    these.
    """
    method = label.lower().replace("-", "")
    preset = f"?preset={PRESETS[arch]}" if arch in PRESETS else ""
    model = {"train": f"{method}@imagenet1k{preset}", "mini": mini(method, data=OBJECTS)}
    return Row(label=label, published=cells(line), arch=arch, epochs=epochs, **model | fields)


def deit(label: str, line: str, arch: str = "ViT-B/16", epochs: str = "", **fields: Any) -> Row:
    """DeiT's released network."""
    size = {"ViT-S/16": "small", "ViT-B/16": "base"}[arch]
    model = {"train": "", "source": f"timm:deit_{size}_patch16_224.fb_in1k", "mini": MINI_DEIT}
    return row(label, line, arch, epochs, **model | fields)


def beit(line: str, **fields: Any) -> Row:
    """BEiT with its own recipe: 800 epochs, whatever stands in SOVE's tables."""
    train = "beit@imagenet1k?arch=vit_base_patch16_224&epochs=800"
    return row("BEiT", line, train=train, differs=TOKENIZER, **fields)


def cited(label: str, line: str, arch: str, data: str = "", epochs: str = "") -> Row:
    """A system that is never trained here."""
    why = f"{label}: never trained here"
    return Row(label=label, published=cells(line), cited=why, arch=arch, data=data, epochs=epochs)


def landmarks(label: str, line: str, *notes: str) -> Row:
    """A row of Table 5, with notes on all cells but the one of RParis Medium."""
    return row(
        label,
        line,
        epochs="400",
        data="ImageNet-1K",
        notes=dict(zip((0, 1, 3), notes, strict=True)),
    )


def two_crop(label: str, method: str, line: str, switches: Switches = NONE) -> Row:
    """ViT-S/16 after 300 epochs of two large crops."""
    train = f"{method}@imagenet1k?{text_of({'preset': 'two_crop', **switches})}"
    small = mini(method, text_of({**MINI_TWO_CROP, **switches}), OBJECTS)
    return row(label, line, "", train=train, mini=small)


def two_crop_beit(label: str, line: str, switches: Switches = NONE) -> Row:
    """BEiT in the analyses, which has one view."""
    shape = {"arch": "vit_small_patch16_224", "epochs": 300}
    train = f"beit@imagenet1k?{text_of({**shape, **switches})}"
    small = mini("beit", text_of(switches), OBJECTS)
    return row(label, line, "", train=train, mini=small, differs=TOKENIZER)


def analysis(label: str, line: str, switches: Switches = NONE, small: Switches = NONE) -> Row:
    """SOVE with switches, which `small` replaces at mini scale."""
    changed = {key: value for key, value in switches.items() if DEFAULTS.get(key) != value}
    shrunk = {**MINI_TWO_CROP, **MINI_DEFAULTS, **switches, **small}
    return replace(
        two_crop(f"SOVE {label}", "sove", line, changed),
        mini=mini("sove", text_of(shrunk), OBJECTS),
    )


def unsaid(*rows: Row) -> tuple[Row, ...]:
    """Rows of an analysis whose other settings are not known."""
    return tuple(replace(row, differs=UNSAID) for row in rows)


def text_of(options: Switches) -> str:
    """`key=value&...`."""
    return "&".join(f"{key}={value}" for key, value in options.items())
