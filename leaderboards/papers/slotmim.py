"""SlotMIM (2024): pre-training on scenes, against DINO, iBOT and MAE on four kinds of data."""

from dataclasses import replace
from typing import Any

from leaderboards.paper import ALL, Column, Paper, Row, Score, Table, cells, mini

COCO_PLUS = "coco+coco[split=unlabeled]"
SCENES = "mini_scenes"
MADE_UP = (
    "The figure's points are not in the text that was read: methods and data are the paper's, the "
    "sizes between are chosen here, and no value is known."
)
UNNAMED = {
    ALL: "pre-train data/epochs not printed in the table; the SlotMIM row equals Table 4 row 5, "
    "hence COCO+, 800 ep"
}

# Columns

KNN = Column(
    task="ImageNet k-NN (k=20)",
    metric="top-1",
    measure=Score("knn@imagenet1k?token=avg_fcnorm", "top1", "knn@mini_objects?token=avg_fcnorm"),
)
KNN_OF_MANY = replace(
    KNN,
    measure=Score("knn@imagenet1k", "top1", "knn@mini_objects"),
    differs="protocol: the paper follows DINO and takes the class token, its script averages "
    "patches; which of them a row has is not said",
)
LINEAR = Column(
    task="ImageNet linear probe",
    metric="top-1",
    measure=Score(
        "linear@imagenet1k?protocol=linear_mae&selection=test", "top1", "linear@mini_objects"
    ),
)
TUNED = Column(
    task="ImageNet fine-tune",
    metric="top-1",
    measure=Score("finetune@imagenet1k", "top1"),
)
ADE = Column(
    task="ADE20K UperNet",
    metric="mIoU",
    measure=Score("segmentation@ade20k?head=upernet", "miou", "segknn@mini_ade?size_px=32"),
)
JACCARD = Column(
    task="VOC12 object discovery",
    metric="Jaccard",
    measure=Score(
        "discovery@voc2012?protocol=jacc_slotmim",
        "jaccard",
        "discovery@mini_voc?protocol=jacc_slotmim&size_px=32",
    ),
)
CORLOC = Column(
    task="VOC12 object discovery",
    metric="CorLoc",
    measure=Score("corloc@voc2012", "corloc", "corloc@mini_voc"),
    differs="protocol: the paper cites LOST and publishes no rule; here its box from the last keys",
)
SLOTS = Column(
    task="slots",
    metric="mean active slots K",
    measure=Score(
        "discovery@voc2012?protocol=jacc_slotmim",
        "active_slots",
        "discovery@mini_voc?protocol=jacc_slotmim&size_px=32",
    ),
    scale=1.0,
    differs="protocol: the paper does not say over which images the mean is",
)
DETECTION = tuple(
    Column(
        task="COCO det/inst-seg (Cascade Mask R-CNN)",
        metric=printed,
        measure=Score("detection@coco?head=cascade", stored),
        differs="protocol: the paper's text says Cascade 1x, its script is ViTDet's 100 epochs",
    )
    for printed, stored in (("AP^b", "ap_box"), ("AP^m", "ap_mask"))
)
ROBOTS = tuple(
    Column(task=name, metric="success rate", measure=Score(f"{task}@{task}", "success"))
    for name, task in (("Franka Kitchen", "franka_kitchen"), ("Meta-World", "metaworld"))
)
ABLATION = (KNN, ADE, JACCARD, CORLOC, SLOTS)

# Rows

ON_COCO_PLUS: dict[str, Any] = {"arch": "ViT-B/16", "data": "COCO+ (241K)", "epochs": "800"}


def slotmim(label: str, line: str, switches: str = "", small: str = "") -> Row:
    """SlotMIM on COCO+ with switches, which `small` replaces at mini scale."""
    more = f"&{switches}" if switches else ""
    return Row(
        label=f"SlotMIM {label}".strip(),
        published=cells(line),
        train=f"slotmim@{COCO_PLUS}?preset=coco_plus{more}",
        mini=mini("slotmim", small or switches),
    )


def rival(label: str, method: str, line: str) -> Row:
    """A row of Table 1."""
    return Row(
        label=label,
        published=cells(line),
        train=f"{method}@{COCO_PLUS}?preset=coco_plus",
        mini=mini(method),
        notes=UNNAMED,
    )


def fact(line: str, data: str = "-") -> Row:
    """A row that holds no results."""
    label = "(protocol)" if data == "-" else "(dataset statistics)"
    note = {ALL: "not a result"}
    return Row(
        label=label, published=cells(line), arch="-", data=data, cited="not a result", notes=note
    )


# Methods of the figures: words for the legend, name, architecture where the default is another,
# epochs of 241K images, and pre-training epochs that count as one (multi-crop 3.84, two views 2).
METHODS = (
    ("MAE", "mae", "", 1.0),
    ("BEiT", "beit", "", 1.0),
    ("SplitMask", "splitmask", "", 1.0),
    ("DINO", "dino", "preset=coco_plus", 3.84),
    ("iBOT", "ibot", "preset=coco_plus", 3.84),
    ("DINOv2", "dinov2", "", 3.84),
    ("SlotMIM", "slotmim", "preset=241k", 2.0),
)
# 241K images of objects, scenes, web pages and egocentric video.
CORPORA = (
    ("INet-241K", "imagenet1k[n=241000,seed=0]", "mini_objects"),
    ("COCO+", COCO_PLUS, SCENES),
    ("CC-241K", "cc12m[n=241000,seed=0]", ""),
    ("Ego-241K", "ego4d[n=241000,seed=0]", ""),
)


def point(
    method: tuple[str, str, str, float],
    data: tuple[str, str, str],
    columns: int,
    x: float,
    epochs: int = 800,
) -> Row:
    """A point of a figure."""
    label, name, preset, _ = method
    text, paper, small = data
    length = "&".join(filter(None, [preset, "arch=vit_base_patch16_224", f"epochs={epochs}"]))
    return Row(
        label=f"{label}, {text}, {epochs} epochs",
        published=("",) * columns,
        train=f"{name}@{paper}?{length}",
        mini=mini(name, data=small) if small else "",
        arch="ViT-B/16",
        data=text,
        epochs=str(epochs),
        x=x,
    )


def convergence(method: tuple[str, str, str, float]) -> tuple[Row, ...]:
    """Figure 4's points of a method: schedules of COCO+, in effective epochs."""
    label, name, _, factor = method
    rows = []
    for epochs, small in ((200, 1), (400, 2), (800, 4)):
        one = point(method, CORPORA[1], 3, epochs * factor, epochs)
        rows.append(replace(one, mini=mini(name, f"epochs={small}"), label=f"{label}, {epochs}"))
    return tuple(rows)


def scaling(columns: int) -> tuple[Row, ...]:
    """Figures 5 and 6: data of three kinds in three sizes, for those that were trained on them."""
    whole = {
        241_000: CORPORA[:2],
        1_281_167: (
            ("INet-1.28M", "imagenet1k", "mini_objects"),
            ("OpenImages-1.28M", "openimages[n=1281167,seed=0]", ""),
        ),
        4_000_000: (
            (
                "4M",
                f"imagenet1k+{COCO_PLUS}+openimages+objects365+lvis",
                "mini_objects+mini_scenes",
            ),
        ),
    }
    epochs = {241_000: 800, 1_281_167: 400, 4_000_000: 200}
    sizes = {241_000: "241k", 1_281_167: "1.28m", 4_000_000: "4m"}
    rows = []
    for size, corpora in whole.items():
        own = [("SlotMIM", "slotmim", f"preset={sizes[size]}", 2.0)]
        rivals = [m for m in METHODS if m[1] in ("mae", "dino", "ibot") and size < 4_000_000]
        rows += [
            point(method, data, columns, size, epochs[size])
            for data in corpora
            for method in [*rivals, *own]
        ]
    return tuple(rows)


class SlotMIM(Paper):
    """Tables 1 to 5c, Figures 3 to 6 and 8."""

    title = "SlotMIM: pre-training on non-object-centric data with masked slots (2024)"
    source = "000_SlotMIM"
    tables = (
        Table(
            key="1",
            printed="Table 1",
            title="Representations and objects learned on COCO+",
            columns=(KNN_OF_MANY, ADE, JACCARD, CORLOC),
            rows=(
                rival("MoCo v3", "mocov3", "43.3 41.3 - -"),
                rival("DINO", "dino", "46.3 40.5 - -"),
                rival("SlotCon (ViT)", "slotcon", "42.9 47.1 40.1 59.6"),
                rival("iBOT", "ibot", "45.3 44.5 - -"),
                rival("SlotMIM", "slotmim", "46.2 49.1 43.9 62.5"),
            ),
            **ON_COCO_PLUS,
        ),
        Table(
            key="2",
            printed="Table 2",
            title="The four kinds of pre-training data",
            columns=tuple(
                Column(task="dataset", metric=what)
                for what in ("#images", "#objects/image", "#classes")
            ),
            rows=(
                fact("241K 1.7 1000", "INet-241K"),
                fact("241K 7.3 80", "COCO+"),
                fact("241K - -", "CC-241K"),
                fact("241K - -", "Ego-241K"),
            ),
        ),
        Table(
            key="3",
            printed="Table 3",
            title="Protocol of the robot tasks",
            columns=tuple(
                Column(task=task, metric=what)
                for task in ("Franka Kitchen", "Meta-World")
                for what in ("#tasks", "#demos", "#seeds")
            ),
            rows=(fact("5 25 3 8 25 3"),),
        ),
        Table(
            key="4",
            printed="Table 4",
            title="Parts of the objective",
            columns=ABLATION,
            rows=(
                slotmim(
                    "row1 (no mask; cross only)",
                    "45.1 47.4 42.5 55.6 8.3",
                    "mask_ratio=0&within_weight=0&cross_weight=1&slot_weight=0",
                ),
                slotmim(
                    "row2 (mask; cross only)",
                    "44.9 48.6 42.3 60.7 10.3",
                    "within_weight=0&cross_weight=1&slot_weight=0",
                ),
                slotmim(
                    "row3 (mask; within only = iBOT patch loss)",
                    "27.7 45.7 39.3 65.5 20.7",
                    "within_weight=1&cross_weight=0&slot_weight=0",
                ),
                slotmim("row4 (mask; cross + slot)", "45.3 47.5 42.9 63.6 8.4", "within_weight=0"),
                slotmim("row5 (mask; cross + within + slot)", "46.2 49.1 43.9 62.5 9.4"),
            ),
            **ON_COCO_PLUS,
        ),
        Table(
            key="5a",
            printed="Table 5a",
            title="Number of prototypes",
            columns=ABLATION,
            rows=(
                slotmim("C=256", "45.3 49.1 42.2 61.2 7.8", "prototypes=256", "prototypes=32"),
                slotmim("C=512 (default)", "46.2 49.1 43.9 62.5 9.4"),
                slotmim("C=1024", "45.6 48.4 42.8 62.6 10.8", "prototypes=1024", "prototypes=128"),
            ),
            **ON_COCO_PLUS,
        ),
        Table(
            key="5b",
            printed="Table 5b",
            title="Mask ratio",
            columns=ABLATION,
            rows=(
                slotmim("mask 0.3+-0.2 (default)", "46.2 49.1 43.9 62.5 9.4"),
                slotmim("mask 0.4+-0.2", "45.8 48.6 45.0 62.6 8.1", "mask_ratio=0.4"),
                slotmim("mask 0.5+-0.2", "44.3 48.2 45.7 64.8 7.1", "mask_ratio=0.5"),
            ),
            **ON_COCO_PLUS,
        ),
        Table(
            key="5c",
            printed="Table 5c",
            title="Targets",
            columns=ABLATION,
            rows=(
                slotmim("centering (default)", "46.2 49.1 43.9 62.5 9.4"),
                slotmim("Sinkhorn", "45.1 49.3 40.8 68.5 15.2", "targets=sinkhorn"),
            ),
            **ON_COCO_PLUS,
        ),
        Table(
            key="fig3",
            printed="Figure 3",
            title="Seven methods on four kinds of data of one size",
            axis="images",
            note=MADE_UP,
            columns=(LINEAR, TUNED, ADE),
            rows=tuple(point(method, data, 3, 241_000) for method in METHODS for data in CORPORA),
        ),
        Table(
            key="fig4",
            printed="Figure 4",
            title="Convergence on COCO+",
            axis="effective_epochs",
            note=MADE_UP,
            columns=(LINEAR, TUNED, ADE),
            rows=tuple(row for method in METHODS for row in convergence(method)),
        ),
        Table(
            key="fig5",
            printed="Figure 5",
            title="Scaling the data: classification and segmentation",
            axis="images",
            note=MADE_UP,
            columns=(LINEAR, TUNED, ADE),
            rows=scaling(3),
        ),
        Table(
            key="fig6",
            printed="Figure 6",
            title="Scaling the data: detection and instance segmentation on COCO",
            axis="images",
            note=MADE_UP,
            columns=DETECTION,
            rows=scaling(2),
        ),
        Table(
            key="fig8",
            printed="Figure 8",
            title="Scaling the data: robots, a frozen encoder under behaviour cloning",
            axis="images",
            note=MADE_UP,
            columns=ROBOTS,
            rows=(
                *scaling(2),
                *(
                    point(method, CORPORA[3], 2, 241_000)
                    for method in METHODS
                    if method[0] in ("MAE", "DINO", "iBOT", "SlotMIM")
                ),
            ),
        ),
    )
