"""ASL (2024): asymmetric patch alignment on top of MAE, on scenes and on ImageNet."""

from dataclasses import replace
from typing import Any

from leaderboards.paper import (
    ALL,
    MINI_TUNING,
    Column,
    FlopsRatio,
    Paper,
    Row,
    Score,
    Table,
    cells,
    mini,
)

BOTH = "imagenet1k[classes=imagenet100.txt]+coco"
MINI_BOTH = "mini_objects+mini_scenes"
SETTINGS = "protocol: the paper's settings are in an appendix that is not published; {} are taken"
MAE_SETTINGS = SETTINGS.format("MAE's")
DET_SETTINGS = SETTINGS.format("ViTDet's")
SAME_SET = {ALL: "pre-trained on the same CIFAR set"}

# Columns


def linear(task: str, data: str, small: str) -> Column:
    """Top-1 of a linear probe."""
    spec = f"linear@{data}?protocol=linear_mae&selection=test"
    score = Score(spec, "top1", f"linear@{small}")
    return Column(task=f"{task} linear probe", metric="top-1", measure=score, differs=MAE_SETTINGS)


def tuned(task: str, data: str, small: str, options: str = "") -> Column:
    """Top-1 after fine-tuning."""
    score = Score(
        f"finetune@{data}{options}", "top1", f"finetune@{small}?batch=64&epochs=5&{MINI_TUNING}"
    )
    return Column(task=f"{task} fine-tune", metric="top-1", measure=score, differs=MAE_SETTINGS)


def detection(task: str, metric: str, stored: str) -> Column:
    """An average precision on COCO."""
    score = Score("detection@coco?head=mask_rcnn", stored)
    return Column(task=task, metric=metric, measure=score, differs=DET_SETTINGS)


COST = Column(
    task="pre-training cost", metric="FLOPs vs MAE", measure=FlopsRatio("MAE"), tolerance=0.1
)
LINEAR = linear("ImageNet-1K", "imagenet1k", "mini_objects")
BOX = detection("COCO detection (Mask R-CNN)", "AP^b", "ap_box")
ADE = Column(
    task="ADE20K UperNet",
    metric="mIoU",
    measure=Score("segmentation@ade20k?head=upernet", "miou", "segknn@mini_ade?size_px=32"),
    differs=MAE_SETTINGS,
)

# Rows

ON_COCO: dict[str, Any] = {"arch": "ViT-B/16", "data": "COCO train2017", "epochs": "800"}


def row(
    label: str, line: str, train: str, small: str = "", of: str = "mini_scenes", **fields: Any
) -> Row:
    """A model that is trained; at mini scale with its method's small recipe and `small`."""
    method = train.partition("@")[0]
    model = {"train": train, "mini": mini(method, small, of)}
    return Row(label=label, published=cells(line), **model | fields)


def asl(label: str, line: str, switches: str = "") -> Row:
    """ASL on COCO, with the switches of an ablation."""
    more = f"&{switches}" if switches else ""
    return row(label, line, f"asl@coco?preset=coco{more}", switches)


def mae(label: str, line: str) -> Row:
    """MAE on COCO."""
    return row(label, line, "mae@coco?preset=coco_plus")


def rmae(line: str, epochs: str) -> Row:
    """R-MAE, which is only cited."""
    why = "R-MAE: never trained here"
    return Row(label="R-MAE", published=cells(line), cited=why, data="COCO", epochs=epochs)


def supervised(line: str, epochs: str) -> Row:
    """A supervised ViT-B; DeiT's stands in."""
    return Row(
        label="Supervised",
        published=cells(line),
        source="timm:deit_base_patch16_224.fb_in1k",
        mini_source="random:vit_mini_patch4_32?seed=0",
        data="ImageNet-1K",
        epochs=epochs,
        differs="model: the paper does not say which network this is; DeiT stands in",
    )


def on_imagenet(label: str, method: str, line: str, epochs: str, **fields: Any) -> Row:
    """A model of another paper, pre-trained on ImageNet."""
    train = f"{method}@imagenet1k?arch=vit_base_patch16_224"
    fields = {"data": "ImageNet-1K", "train": train, **fields}
    return row(label, line, fields.pop("train"), of="mini_objects", epochs=epochs, **fields)


def ours(line: str, epochs: str, preset: str, small: str = "") -> Row:
    """ASL on ImageNet-100 and COCO."""
    train = f"asl@{BOTH}?preset={preset}"
    return row("ASL", line, train, small, MINI_BOTH, data="ImageNet-100 + COCO", epochs=epochs)


def cifar(label: str, method: str, ten: str, hundred: str) -> tuple[Row, ...]:
    """A method on CIFAR-10 and on CIFAR-100; the mini benchmark has one such set, and objects."""
    fields: dict[str, Any] = {"notes": SAME_SET}
    if method:
        return tuple(
            row(label, line, f"{method}@{data}?preset=cifar", of=small, data=name, **fields)
            for line, data, small, name in (
                (ten, "cifar10", "mini_cifar", "CIFAR-10"),
                (hundred, "cifar100", "mini_objects", "CIFAR-100"),
            )
        )
    why = "supervised training is not a pre-training method here"
    return tuple(
        Row(label=label, published=cells(line), data=name, cited=why, **fields)
        for line, name in ((ten, "CIFAR-10"), (hundred, "CIFAR-100"))
    )


BEIT_DATA = "ImageNet-1K + DALLE"
TOKENIZER = "tokenizer: a codebook of patches stands in for DALL-E's"
MAE_1600 = "mae@imagenet1k?preset=imagenet"


class ASL(Paper):
    """Tables 1 to 7 and the unnumbered one of Section 4.6; the figures show no results."""

    title = "ASL: asymmetric self-supervised learning of patches (2024)"
    source = "001_ASL"
    tables = (
        Table(
            key="1",
            printed="Table 1",
            title="Masked image modelling and its hybrids, pre-trained on COCO",
            columns=(COST, LINEAR, BOX),
            rows=(
                mae("MAE", "1x 46.8 49.3"),
                row("CMAE", "~3x 46.6 49.0", "cmae@coco?epochs=800"),
                row("ccMIM", "~3.3x 46.7 49.0", "ccmim@coco?epochs=800"),
                row("SIM", "~2.8x 46.0 48.7", "sim@coco?epochs=800"),
                row("iBOT", "~6x 45.2 48.6", "ibot@coco?preset=coco_plus"),
                asl("ASL", "~1.5x 48.6 50.3"),
            ),
            **ON_COCO,
        ),
        Table(
            key="2",
            printed="Table 2",
            title="Pre-training on ImageNet-100 and COCO",
            arch="ViT-B/16 (86M)",
            data="ImageNet-100 + COCO",
            epochs="800",
            columns=(
                linear("ImageNet-100", "imagenet1k[classes=imagenet100.txt]", "mini_objects"),
                tuned("ImageNet-100", "imagenet1k[classes=imagenet100.txt]", "mini_objects"),
            ),
            rows=(
                row("MAE", "74.5 90.9", f"mae@{BOTH}?preset=coco_plus", of=MINI_BOTH),
                row("iBOT", "71.8 88.5", f"ibot@{BOTH}?preset=coco_plus", of=MINI_BOTH),
                row("ccMIM", "72.3 88.7", f"ccmim@{BOTH}?epochs=800", of=MINI_BOTH),
                row("ASL", "79.6 92.4", f"asl@{BOTH}?preset=in100_coco", of=MINI_BOTH),
                row(
                    "ASL",
                    "85.9 94.2",
                    f"asl@{BOTH}?preset=in100_coco_long",
                    "epochs=16",
                    MINI_BOTH,
                    epochs="4000",
                ),
            ),
        ),
        Table(
            key="3",
            printed="Table 3",
            title="Detection and instance segmentation on COCO",
            arch="ViT-B/16",
            columns=tuple(
                detection("COCO det/inst-seg (Mask R-CNN)", metric, stored)
                for metric, stored in (
                    ("AP^b", "ap_box"),
                    ("AP^b_50", "ap_box_50"),
                    ("AP^b_75", "ap_box_75"),
                    ("AP^m", "ap_mask"),
                    ("AP^m_50", "ap_mask_50"),
                    ("AP^m_75", "ap_mask_75"),
                )
            ),
            rows=(
                supervised("47.9 - - 42.9 - -", "~94k it"),
                on_imagenet("MoCo v3", "mocov3", "47.9 - - 42.7 - -", "~187k it"),
                on_imagenet(
                    "BEiT",
                    "beit",
                    "49.8 - - 44.4 - -",
                    "~249k it",
                    data=BEIT_DATA,
                    differs=TOKENIZER,
                ),
                on_imagenet(
                    "MAE", "mae", "50.4 70.8 55.7 44.9 68.3 48.9", "~499k it", train=MAE_1600
                ),
                Row(
                    label="CAE",
                    published=cells("50.0 70.9 54.8 44.0 67.9 47.6"),
                    cited="CAE: never trained here",
                    data="ImageNet-1K",
                    epochs="~499k it",
                ),
                rmae("50.6 - - 45.0 - -", "~115k it"),
                rmae("50.8 - - 45.2 - -", "~250k it"),
                on_imagenet("ccMIM", "ccmim", "50.3 71.2 55.0 44.5 68.4 47.9", "~249k it"),
                ours("50.7 71.1 55.6 45.0 68.3 49.0", "~47k it (800 ep)", "in100_coco"),
                ours(
                    "51.5 71.9 57.2 45.7 69.2 50.0",
                    "~236k it (4000 ep)",
                    "in100_coco_long",
                    "epochs=16",
                ),
            ),
        ),
        Table(
            key="4",
            printed="Table 4",
            title="Segmentation of ADE20K",
            arch="ViT-B/16",
            columns=(ADE,),
            rows=(
                supervised("47.4", "~93k it"),
                Row(
                    label="SplitMask",
                    published=("45.7",),
                    train="splitmask@ade20k?arch=vit_base_patch16_224",
                    mini=mini("splitmask", data="mini_ade"),
                    data="ADE20K",
                    epochs="~128k it",
                    differs=TOKENIZER,
                ),
                on_imagenet("MoCo v3", "mocov3", "47.3", "~187k it"),
                on_imagenet("BEiT", "beit", "47.1", "~249k it", data=BEIT_DATA, differs=TOKENIZER),
                rmae("46.8", "~115k it"),
                rmae("47.0", "~250k it"),
                on_imagenet("ccMIM", "ccmim", "47.7", "~249k it"),
                on_imagenet("MAE", "mae", "48.1", "~499k it", train=MAE_1600),
                ours("48.4", "~236k it (4000 ep)", "in100_coco_long", "epochs=16"),
            ),
        ),
        Table(
            key="5",
            printed="Table 5",
            title="Pre-training on ImageNet",
            arch="ViT-B/16",
            data="ImageNet-1K",
            epochs="1600 (MAE, as in Table 3); ASL not printed",
            columns=(
                LINEAR,
                tuned("ImageNet-1K", "imagenet1k", "mini_objects"),
                detection("COCO det (Mask R-CNN)", "AP^b", "ap_box"),
                detection("COCO inst-seg (Mask R-CNN)", "AP^m", "ap_mask"),
                ADE,
            ),
            rows=(
                row("MAE", "67.8 83.6 50.4 44.9 48.1", MAE_1600, of="mini_objects"),
                row(
                    "ASL",
                    "69.2 84.2 51.3 45.7 49.2",
                    "asl@imagenet1k?preset=imagenet",
                    of="mini_objects",
                ),
            ),
        ),
        Table(
            key="6",
            printed="Table 6",
            title="Pre-training and evaluation on CIFAR",
            arch="ViT-S",
            epochs="not printed",
            columns=(
                linear("CIFAR-10", "cifar10", "mini_cifar"),
                tuned("CIFAR-10", "cifar10", "mini_cifar", "?protocol=finetune_asl32"),
                linear("CIFAR-100", "cifar100", "mini_objects"),
                tuned("CIFAR-100", "cifar100", "mini_objects", "?protocol=finetune_asl32"),
            ),
            rows=(
                *cifar("Supervised", "", "- 91.3 - -", "- - - 64.1"),
                *cifar("DINO", "dino", "89.0 94.4 - -", "- - 65.8 76.3"),
                *cifar("MAE", "mae", "87.3 95.9 - -", "- - 54.0 81.1"),
                *cifar("ASL", "asl", "91.4 96.5 - -", "- - 60.3 82.1"),
            ),
            note="Size of patches and schedules are not printed: 4 px and 1,600 epochs here.",
        ),
        Table(
            key="7",
            printed="Table 7",
            title="Branches and alignment",
            columns=(replace(COST, measure=FlopsRatio("(a) MAE")), LINEAR, BOX),
            rows=(
                mae("(a) MAE", "1x 46.8 49.3"),
                asl("(b) ASL-DLE without alignment", "~2x 46.5 49.1", "branch=dle&align_weight=0"),
                asl("(c) ASL-DLE + alignment", "~2x 48.5 50.4", "branch=dle"),
                asl("(d) ASL-AEE without alignment", "~1.5x 46.6 49.2", "align_weight=0"),
                asl("(e) ASL-AEE + alignment", "~1.5x 48.6 50.3"),
            ),
            **ON_COCO,
        ),
        Table(
            key="loss",
            printed="unnumbered (Sec 4.6, alignment loss)",
            title="Distance of the alignment",
            columns=(LINEAR,),
            rows=(
                mae("MAE", "46.8"),
                asl("ASL-AEE cosine alignment", "47.6", "align=cosine"),
                asl("ASL-AEE L1 alignment", "48.6"),
                asl("ASL-AEE L1 + [cls] alignment", "45.6", "align_cls=true"),
            ),
            **ON_COCO,
        ),
    )
