"""`random:ARCH?seed=0`: random weights, the floor under every comparison; bit-reproducible."""

from pathlib import Path

from bench.backbone import Backbone
from bench.checkpoint import Family, LoadedModel, split_source
from bench.errors import CheckpointError
from bench.network import seeded_network, size_of
from bench.records import KeyReport
from bench.transforms import InputSpec


class RandomFamily(Family):
    """Randomly initialised architectures: the grammar's (`vit_mini_patch4_32`) or timm's names."""

    def claims(self, source: str) -> bool:
        """Only by prefix: no path holds random weights."""
        return source.startswith("random:")

    def example(self, folder: Path) -> str:
        """The demo's architecture; no file is needed."""
        return "random:vit_mini_patch4_32?seed=1"

    def load(self, source: str) -> LoadedModel:
        """The architecture with weights drawn from `seed` (default 0), input size its own."""
        arch, options = split_source(source, ("seed",))
        text = options.get("seed", "0")
        if not text.isdecimal():
            raise CheckpointError(f"{source}: seed is '{text}', expected a whole number")
        network = seeded_network(arch, int(text))
        backbone = Backbone(network, InputSpec.of_size(size_of(network)))
        return LoadedModel.of(
            backbone,
            KeyReport(loaded=0, total=len(network.state_dict())),
            name=f"random-{arch}-seed{int(text)}",
            source=source,
            family="random",
            arch=arch,
        )
