"""SOVE (2024): self-organizing visual embeddings, on ImageNet against DINO, iBOT and MaSSL."""

from dataclasses import replace
from typing import Any

from leaderboards.paper import ALL, Paper, Table
from leaderboards.papers._sove import (
    AT_MOST,
    CASCADE,
    FOREIGN,
    INFERRED,
    KNN,
    LINEAR,
    LOST,
    MINI_DEIT,
    MISLABELLED,
    REFERENCE,
    ade,
    analysis,
    background,
    beit,
    cited,
    coco,
    deit,
    fine_tuned,
    imagenet,
    landmarks,
    retrieval,
    row,
    suspect,
    transfer,
    two_crop,
    two_crop_beit,
    unsaid,
    video,
)

VIT_B: dict[str, Any] = {"arch": "ViT-B/16", "data": "ImageNet-1K", "epochs": "400"}
ANALYSIS: dict[str, Any] = {
    "arch": "ViT-S/16",
    "data": "ImageNet-1K",
    "epochs": "300 (no multi-crop)",
    "columns": (KNN,),
}
ESVIT = "esvit@imagenet1k?arch=swin_tiny_patch4_window14_224&epochs=300"
UNREADABLE = "The figure is not in the text that was read: its points and values are not known."

# Judges of class tokens, judges of patches, k-NN; then the same of tasks.
JUDGES = """
    1 1 69.2, 3 1 69.4, 5 1 69.3, 7 1 69.7, 9 1 70.2,
              3 3 68.9, 5 3 69.3, 7 3 69.3, 9 3 69.9,
                        5 5 68.8, 7 5 69.2, 9 5 69.8,
                                  7 7 69.2, 9 7 69.3,
                                            9 9 69.0"""
TASKS = """
    1 0 68.0, 2 0 68.5, 4 0 68.6,
    1 1 69.6, 2 1 70.0, 4 1 70.0,
              2 2 69.7, 4 2 69.7,
                        4 4 70.2"""


def on_patches(tasks: str) -> dict[str, object]:
    """The switches for a number of tasks on patches."""
    return {"patch_tasks": int(tasks)} if int(tasks) else {"patch_weight": 0}


class SOVE(Paper):
    """Tables 1 to 9 and A.1 to B.5, Figures 1 and B.1."""

    title = "Self-Organizing Visual Embeddings: Non-Parametric Self-Supervised Learning (2024)"
    source = "004_SOVE"
    tables = (
        Table(
            key="1",
            printed="Table 1",
            title="Linear probing, fine-tuning on few labels and k-NN on ImageNet",
            data="ImageNet-1K",
            columns=(
                LINEAR,
                fine_tuned(1),
                fine_tuned(10),
                replace(KNN, task="ImageNet k-NN (best k)"),
            ),
            rows=(
                row("EsViT", "78.7 - - 77.0", "Swin-T/14", "300", train=ESVIT),
                row("iBOT", "79.3 - - 76.2", "Swin-T/14", "300"),
                row("SOVE", "79.3 - - 77.0", "Swin-T/14", "300"),
                deit("DeiT (supervised)", "79.8 - - 79.3", "ViT-S/16", "800"),
                row("DINO", "77.0 60.3 74.3 74.5", "ViT-S/16", "800"),
                row("iBOT", "77.9 61.9 75.1 75.2", "ViT-S/16", "800"),
                row("MaSSL", "77.8 - - 75.1", "ViT-S/16", "800"),
                row("SOVE", "77.8 61.8 75.0 75.2", "ViT-S/16", "800"),
                deit("DeiT (supervised)", "81.8 75.6 81.4 81.0", "ViT-B/16", "400"),
                row(
                    "MoCo-v3",
                    "76.7 - - -",
                    "ViT-B/16",
                    "400",
                    train="mocov3@imagenet1k",
                    notes={0: "original reports 300 ep (MoCo-v3 ViT-B)"},
                    differs=FOREIGN,
                ),
                row(
                    "NNCLR",
                    "76.5 - - -",
                    "ViT-B/16",
                    "1000",
                    train="nnclr@imagenet1k?arch=vit_base_patch16_224&epochs=1000",
                    differs=FOREIGN,
                ),
                row("DINO", "78.2 64.4 76.3 76.1", "ViT-B/16", "400"),
                row("iBOT", "79.5 68.5 78.1 77.1", "ViT-B/16", "400"),
                row("MaSSL", "79.6 - - 77.2", "ViT-B/16", "400"),
                row("SOVE", "79.9 69.5 78.2 78.4", "ViT-B/16", "400"),
                row("iBOT", "81.0 - - 78.0", "ViT-L/16", "250"),
                row(
                    "I-JEPA",
                    "77.5 - - -",
                    "ViT-L/16",
                    "600",
                    train="ijepa@imagenet1k?arch=vit_large_patch16_224&epochs=600",
                    differs=FOREIGN,
                ),
                row(
                    "I-JEPA",
                    "79.3 - - -",
                    "ViT-H/14",
                    "300",
                    train="ijepa@imagenet1k?arch=vit_huge_patch14_224&epochs=300",
                    notes={0: "row label missing in the text; it is the second I-JEPA row"},
                    differs=FOREIGN,
                ),
                row("SOVE", "81.2 - - 79.2", "ViT-L/16", "250"),
            ),
        ),
        Table(
            key="2",
            printed="Table 2",
            title="Detection and instance segmentation on COCO, segmentation on ADE20K",
            columns=(
                coco("detection", "AP^b", "ap_box"),
                coco("inst-seg", "AP^m", "ap_mask"),
                ade("frozen linear (dagger)", "linear"),
                ade("UperNet", "upernet"),
            ),
            rows=(
                deit("Sup.", "49.8 43.2 35.4 46.6", notes=CASCADE),
                beit("50.1 43.5 27.4 45.8", notes=CASCADE),
                row("DINO", "50.1 43.4 34.5 46.8", notes=CASCADE),
                row("iBOT", "51.2 44.2 38.3 50.0", notes=CASCADE),
                row("SOVE", "51.4 44.3 38.7 50.6", notes=CASCADE),
            ),
            **VIT_B,
        ),
        Table(
            key="3",
            printed="Table 3",
            title="Transfer by fine-tuning on smaller data sets",
            columns=(
                transfer("CIFAR-10", "cifar10", "mini_cifar"),
                transfer("CIFAR-100", "cifar100"),
                transfer("iNat18", "inat18"),
                transfer("iNat19", "inat19"),
                transfer("Flowers-102", "flowers102"),
                transfer("Stanford Cars", "cars"),
            ),
            rows=(
                deit(
                    "Rand",
                    "99.0 90.8 73.2 77.7 98.4 92.1",
                    notes={
                        ALL: '"Rand" is supervised-from-scratch/DeiT-style reference in the iBOT '
                        "paper"
                    },
                    differs=REFERENCE,
                ),
                beit("99.0 90.1 72.3 79.2 98.0 94.2"),
                row("DINO", "99.1 91.7 72.6 78.6 98.8 93.0"),
                row("iBOT", "99.2 92.2 74.6 79.6 98.9 94.3"),
                row("SOVE", "99.3 92.4 74.6 79.7 99.0 94.5"),
            ),
            **VIT_B,
        ),
        Table(
            key="4",
            printed="Table 4",
            title="Video object segmentation on DAVIS-2017",
            data="IN-1K",
            columns=(
                video("(J&F)_m", "jf_mean"),
                video("J_m", "j_mean"),
                video("F_m", "f_mean"),
            ),
            rows=(
                row(
                    "Sup. IN-1K",
                    "66.0 63.9 68.1",
                    "ViT-S/8",
                    train="deit@imagenet1k?arch=vit_small_patch8_224",
                    mini=MINI_DEIT,
                ),
                cited("STM (supervised)", "81.8 79.2 84.3", "RN50", "I/D/Y"),
                cited("CT", "48.7 46.4 50.0", "RN50", "VLOG"),
                cited("MAST", "65.5 63.3 67.6", "RN18", "YT-VOS"),
                cited("STC", "67.6 64.8 70.2", "RN18", "Kinetics"),
                row("DINO", "61.8 60.2 63.4", "ViT-S/16"),
                row("DINO", "62.3 60.7 63.9", "ViT-B/16"),
                row("iBOT", "61.8 60.4 63.2", "ViT-S/16"),
                row("iBOT", "62.7 61.7 63.7", "ViT-B/16"),
                row("SOVE", "63.3 61.7 65.0", "ViT-B/16"),
            ),
        ),
        Table(
            key="5",
            printed="Table 5",
            title="Retrieval of landmarks with frozen features",
            columns=(
                retrieval("ROxford", "Medium", "roxford5k", "mini_oxford"),
                retrieval("ROxford", "Hard", "roxford5k", "mini_oxford"),
                retrieval("RParis", "Medium", "rparis6k"),
                retrieval("RParis", "Hard", "rparis6k"),
            ),
            rows=(
                cited(
                    "Sup. (RN101, retrieval-specific)", "49.8 18.5 74.0 52.1", "RN101", epochs="100"
                ),
                landmarks("DINO", "? ? 63.5 ?", suspect("37.4"), suspect("13.7"), suspect("35.6")),
                landmarks("iBOT", "? 14.3 64.1 36.6", suspect("36.8"), INFERRED, INFERRED),
                landmarks("MaSSL", "39.3 14.1 65.8 38.1", INFERRED, INFERRED, INFERRED),
                landmarks(
                    "SOVE",
                    "? ? 67.3 ?",
                    LOST,
                    AT_MOST + "(14.3) on the Hard splits, so <=17.5",
                    AT_MOST + "(38.1), so <=41.3",
                ),
            ),
        ),
        Table(
            key="6",
            printed="Table 6",
            title="Robustness to backgrounds on ImageNet-9",
            columns=(
                background("Only-FG", "only_fg"),
                background("Mixed-Same", "mixed_same"),
                background("Mixed-Rand", "mixed_rand"),
                background("Mixed-Next", "mixed_next"),
                background("No-FG", "no_fg"),
                background("Only-BG-B", "only_bg_b"),
                background("Only-BG-T", "only_bg_t"),
                background("IN-9 clean", "original"),
            ),
            rows=(
                row("iBOT", "91.9 89.7 81.9 79.7 54.7 17.6 20.4 96.8"),
                row("MaSSL", "91.0 90.2 83.0 80.4 53.4 15.8 23.7 97.6"),
                row(
                    "SOVE",
                    "93.3 91.4 85.6 83.1 55.8 19.9 22.8 97.1",
                    notes={0: "text says OF +2.3, which is against MaSSL; against iBOT it is +1.4"},
                ),
            ),
            **VIT_B,
        ),
        Table(
            key="7",
            printed="Table 7",
            title="Pretext tasks: class tokens, masked patches, or both",
            note="SOVE's rows have one task on patches, with which Table B.1 prints the same 70.0.",
            rows=(
                two_crop("iBOT (MIM + CLS)", "ibot", "69.1 74.2"),
                two_crop("iBOT (MIM only)", "ibot", "9.5 29.8", {"cls_weight": 0}),
                two_crop_beit("BEiT (DALL-E tokenizer, no CLS)", "6.9 23.5"),
                two_crop("DINO (CLS only)", "dino", "67.9 72.5"),
                two_crop_beit("BEiT+DINO", "48.0 62.7", {"cls_weight": 1}),
                analysis("(MIM + CLS)", "70.0 74.3", {"patch_tasks": 1}),
                analysis("(MIM only)", "16.8 30.2", {"patch_tasks": 1, "cls_weight": 0}),
                analysis("(CLS only)", "68.6 72.7", {"patch_weight": 0}),
            ),
            **ANALYSIS | {"columns": (KNN, LINEAR)},
        ),
        Table(
            key="8",
            printed="Table 8",
            title="How many judges: on class tokens, on patches",
            rows=tuple(
                analysis(
                    f"judges CLS={cls} MIM={mim}",
                    knn,
                    {"judges": int(cls), "patch_judges": int(mim)},
                )
                for cls, mim, knn in map(str.split, JUDGES.split(","))
            ),
            **ANALYSIS,
        ),
        Table(
            key="9",
            printed="Table 9",
            title="Labels of the judges",
            rows=(
                analysis("soft labels", "70.2"),
                analysis("one-hot labels", "69.8", {"labels": "one_hot"}),
            ),
            **ANALYSIS,
        ),
        Table(
            key="a1",
            printed="Table A.1",
            title="k-NN on ImageNet with few labels",
            data="ImageNet-1K",
            columns=tuple(
                imagenet(
                    f"k-NN with {share}% labels (frozen)",
                    f"knn@{{}}[list={share}percent.txt]",
                    "best_top1",
                )
                for share in (1, 10)
            ),
            rows=(
                deit("DeiT (supervised)", "77.3 78.7", "ViT-S/16"),
                deit("DeiT (supervised)", "80.2 80.9", "ViT-B/16"),
                row("DINO", "61.3 69.1", "ViT-S/16"),
                row("DINO", "63.6 71.0", "ViT-B/16"),
                row("iBOT", "62.3 70.1", "ViT-S/16"),
                row("iBOT", "66.3 72.9", "ViT-B/16"),
                row("iBOT", "64.2 71.5", "Swin-T/14"),
                row("SOVE", "62.2 70.3", "ViT-S/16"),
                row("SOVE", "68.6 74.3", "ViT-B/16"),
                row("SOVE", "65.3 72.3", "Swin-T/14"),
            ),
        ),
        Table(
            key="a2",
            printed="Table A.2",
            title="More metrics of detection and segmentation",
            columns=(
                coco("det (Cascade Mask R-CNN)", "AP^b", "ap_box"),
                coco("det (Cascade Mask R-CNN)", "AP^b_50", "ap_box_50"),
                coco("det (Cascade Mask R-CNN)", "AP^b_75", "ap_box_75"),
                coco("inst-seg (Cascade Mask R-CNN)", "AP^m", "ap_mask"),
                coco("inst-seg (Cascade Mask R-CNN)", "AP^m_50", "ap_mask_50"),
                coco("inst-seg (Cascade Mask R-CNN)", "AP^m_75", "ap_mask_75"),
                ade("frozen linear", "linear"),
                ade("frozen linear", "linear", "mAcc"),
                ade("UperNet", "upernet"),
                ade("UperNet", "upernet", "mAcc"),
            ),
            rows=(
                deit("Sup.", "49.8 69.6 53.8 43.2 66.6 46.5 35.4 44.6 46.6 57.0"),
                row("DINO", "50.1 68.5 54.6 43.5 66.2 47.1 27.4 35.5 45.8 55.9", notes=MISLABELLED),
                row("iBOT", "51.2 70.8 55.5 44.2 67.8 47.7 38.3 48.0 50.0 60.3"),
                row("SOVE", "51.4 70.9 55.5 44.3 68.0 47.8 38.7 48.1 50.6 60.5"),
            ),
            **VIT_B,
        ),
        Table(
            key="b1",
            printed="Table B.1",
            title="How many tasks in a step: on class tokens, on patches",
            rows=tuple(
                analysis(f"tasks CLS={cls} MIM={mim}", knn, {"tasks": int(cls), **on_patches(mim)})
                for cls, mim, knn in map(str.split, TASKS.split(","))
            ),
            **ANALYSIS,
        ),
        Table(
            key="b2",
            printed="Table B.2",
            title="What stands for a view",
            rows=unsaid(
                analysis("[CLS] token", "69.2"),
                analysis("average patch", "67.8", {"token": "avg"}),
            ),
            **ANALYSIS,
        ),
        Table(
            key="b3",
            printed="Table B.3",
            title="How many anchors for class tokens",
            rows=(
                analysis("K=1024 class anchors", "68.3", {"anchors": 1024}, {"anchors": 16}),
                analysis("K=2048 class anchors", "68.9", {"anchors": 2048}, {"anchors": 32}),
                analysis("K=4096 class anchors", "69.2", {"anchors": 4096}, {"anchors": 64}),
                analysis("K=8192 class anchors", "70.2"),
                analysis("K=16384 class anchors", "69.7", {"anchors": 16384}, {"anchors": 256}),
            ),
            **ANALYSIS,
        ),
        Table(
            key="b4",
            printed="Table B.4",
            title="How many anchors for patches",
            rows=unsaid(
                analysis(
                    "Kdot=256 patch anchors", "69.0", {"patch_anchors": 256}, {"patch_anchors": 64}
                ),
                analysis("Kdot=512 patch anchors", "69.2"),
                analysis(
                    "Kdot=1024 patch anchors",
                    "69.2",
                    {"patch_anchors": 1024},
                    {"patch_anchors": 256},
                ),
            ),
            **ANALYSIS,
        ),
        Table(
            key="b5",
            printed="Table B.5",
            title="Momentum of the teacher",
            rows=unsaid(
                analysis("momentum .992->1", "69.2", {"momentum": 0.992}, {"momentum": 0.96}),
                replace(
                    analysis("momentum .994->1", "69.4", {"momentum": 0.994}, {"momentum": 0.97}),
                    notes={ALL: 'uncertain: printed "69 4"'},
                ),
                analysis("momentum .996->1", "69.4"),
            ),
            **ANALYSIS,
        ),
        Table(
            key="fig1",
            printed="Figure 1",
            title="k-NN on ImageNet",
            axis="flops",
            data="ImageNet-1K",
            columns=(replace(KNN, task="ImageNet k-NN (best k)"),),
            note=UNREADABLE + " The rows are models of Table 1.",
            rows=(
                row("DINO", "-", "ViT-S/16", "800"),
                row("DINO", "-", "ViT-B/16", "400"),
                row("iBOT", "-", "ViT-S/16", "800"),
                row("iBOT", "-", "ViT-B/16", "400"),
                row("iBOT", "-", "ViT-L/16", "250"),
                row("SOVE", "-", "ViT-S/16", "800"),
                row("SOVE", "-", "ViT-B/16", "400"),
                row("SOVE", "-", "ViT-L/16", "250"),
            ),
        ),
        Table(
            key="figb1",
            printed="Figure B.1",
            title="Masks in blocks or at random",
            axis="epochs",
            note=UNREADABLE,
            rows=(
                analysis("blockwise masking", "-"),
                analysis(
                    "random masking",
                    "-",
                    {"mask": "random", "mask_ratios": 0.7, "mask_spreads": 0.0},
                ),
            ),
            **ANALYSIS,
        ),
    )
