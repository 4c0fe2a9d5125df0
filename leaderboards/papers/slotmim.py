"""SlotMIM (Wen et al., 2024): pre-training on scenes with slots of few prototypes."""

from leaderboards.paper import ALL, Column, Paper, Row, Score, Table, mini

COCO_PLUS = "coco+coco[split=unlabeled]"

KNN = Column(
    task="ImageNet k-NN (k=20)",
    metric="top-1",
    measure=Score("knn@imagenet1k?k=20", "top1", mini="knn@mini_objects?k=20"),
)


class SlotMIM(Paper):
    """Tables 1 to 5c and the curve figures 3 to 6 and 8."""

    title = "Wen et al., SlotMIM: representation learning from non-object-centric data (2024)"
    source = "000_SlotMIM"
    tables = (
        Table(
            key="1",
            printed="Table 1",
            title="Object discovery and representation quality on COCO+",
            arch="ViT-B/16",
            data="COCO+ (241K)",
            epochs="800",
            columns=(KNN,),
            rows=(
                Row(
                    label="DINO",
                    published=("46.3",),
                    train=f"dino@{COCO_PLUS}?preset=coco_plus",
                    mini=mini("dino"),
                    notes={ALL: "pre-train data/epochs not printed in the table"},
                ),
            ),
        ),
    )
