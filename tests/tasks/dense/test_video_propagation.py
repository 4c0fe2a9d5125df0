"""Label propagation against all affinities at once in float64, and what goes in and comes out."""

import math
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bench.errors import DataError, SpecError
from bench.label_maps import resized_labels
from tasks.video_frames import (
    FrameTransform,
    frame_size,
    read_out,
    resized,
    seed_labels,
)
from tasks.video_propagation import Propagator
from tasks.video_protocols import Propagation
from tests.tasks.video_fakes import bilinear


def video(h: int, w: int, d: int, frames: int, seed: int = 0) -> list[Tensor]:
    """Features (h, w, d) that shift by a patch a frame, with noise."""
    rng = torch.Generator().manual_seed(seed)
    scene = torch.randn(h, w, d, generator=rng)
    noise = [torch.randn(h, w, d, generator=rng) for _ in range(frames)]
    return [torch.roll(scene, (t, t // 2), (0, 1)) + 0.7 * noise[t] for t in range(frames)]


def seeds(h: int, w: int) -> Tensor:
    """One-hot labels (h, w, 3): two objects and the background."""
    labels = torch.zeros(h, w, dtype=torch.int64)
    labels[: (h + 1) // 2, : (w + 1) // 3] = 1
    labels[h // 2 :, w // 2 :] = 2
    return torch.nn.functional.one_hot(labels, 3).float()


def dense(rule: Propagation, features: list[Tensor], first: Tensor) -> list[np.ndarray]:
    """Soft labels of all frames but the first: every patch against every patch, in float64."""
    h, w, c = first.shape
    unit = [f.double().numpy().reshape(h * w, -1) for f in features]
    unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in unit]
    y, x = np.divmod(np.arange(h * w), w)
    away = np.maximum(abs(y[:, None] - y), abs(x[:, None] - x))  # (n, n)
    labels = [first.double().numpy().reshape(h * w, c)]
    for t in range(1, len(features)):
        context = [0, *range(max(1, t - rule.context), t)]
        affinity = np.concatenate(
            [
                np.exp(unit[t] @ unit[s].T / rule.temperature) * (away <= rule.radius)
                for s in context
            ],
            axis=1,
        )  # (n, contexts * n)
        known = np.concatenate([labels[s] for s in context])
        last = np.sort(affinity, axis=1)[:, -rule.topk :][:, :1]
        affinity[affinity < last] = 0
        labels.append(affinity / affinity.sum(1, keepdims=True) @ known)
    return [found.reshape(h, w, c) for found in labels[1:]]


def followed(
    rule: Propagation, features: list[Tensor], first: Tensor, **how: object
) -> list[Tensor]:
    propagator = Propagator(rule, features[0], first, **how)  # type: ignore[arg-type]
    return [propagator.step(frame) for frame in features[1:]]


@pytest.mark.parametrize(
    ("shape", "frames", "rule"),
    [
        ((14, 17), 12, Propagation(radius=4)),
        ((14, 17), 5, Propagation()),
        ((30, 9), 4, Propagation(radius=12)),
        ((5, 40), 6, Propagation(radius=3, context=2, topk=1)),
        ((6, 7), 6, Propagation(radius=1, context=1, topk=9, temperature=0.01)),
        ((8, 9), 5, Propagation(radius=2, context=0)),
        ((1, 1), 4, Propagation()),
        ((2, 3), 4, Propagation(topk=50)),
    ],
)
def test_soft_labels_equal_those_of_all_affinities_at_once(
    shape: tuple[int, int], frames: int, rule: Propagation
) -> None:
    features, first = video(*shape, 16, frames), seeds(*shape)
    for found, expected in zip(
        followed(rule, features, first), dense(rule, features, first), strict=True
    ):
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


def test_radius_0_makes_all_patches_candidates() -> None:
    features, first = video(9, 16, 16, 4), seeds(9, 16)
    found = followed(Propagation(radius=0), features, first)
    for one, other in zip(found, followed(Propagation(radius=16), features, first), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    local = followed(Propagation(radius=1), features, first)
    assert not torch.allclose(found[-1], local[-1], atol=1e-2)


@pytest.mark.parametrize("tile", [(1, 1), (3, 5), (4, 100), (100, 100)])
def test_tiles_do_not_change_the_labels(tile: tuple[int, int]) -> None:
    features, first = video(11, 13, 16, 10), seeds(11, 13)
    expected = followed(Propagation(radius=3), features, first)
    for one, other in zip(
        followed(Propagation(radius=3), features, first, tile=tile), expected, strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_candidates_as_near_as_the_last_all_count() -> None:
    """Eight patches of one look around the target, of which the top three would take three."""
    first = torch.zeros(3, 3, 9)
    first.view(9, 9)[:] = torch.eye(9)
    propagator = Propagator(Propagation(topk=3, radius=1), torch.ones(3, 3, 4), first)
    found = propagator.step(torch.ones(3, 3, 4))
    assert torch.allclose(found[1, 1], torch.full((9,), 1 / 9))
    corner = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 0]]).flatten() / 4
    assert torch.allclose(found[0, 0], corner)


def test_a_static_video_keeps_its_labels() -> None:
    frame, first = video(12, 15, 16, 1)[0], seeds(12, 15)
    for found in followed(Propagation(), [frame] * 12, first):
        assert torch.equal(found.argmax(2), first.argmax(2))


def test_an_object_with_a_look_of_its_own_is_followed_wherever_it_goes() -> None:
    labels = torch.zeros(10, 16, 2)
    moves = [(1, 1), (2, 3), (4, 5), (5, 8), (6, 11)]
    frames = []
    for top, left in moves:
        frame = labels.clone()
        frame[..., 0] = 1
        frame[top : top + 3, left : left + 4] = torch.tensor([0.0, 1.0])
        frames.append(frame)
    for found, frame in zip(followed(Propagation(), frames, frames[0]), frames[1:], strict=True):
        assert torch.allclose(found, frame, atol=1e-5)


def test_labels_stay_a_mean() -> None:
    found = followed(Propagation(radius=2), video(8, 9, 4, 20), seeds(8, 9))[-1]
    assert torch.allclose(found.sum(2), torch.ones(8, 9), atol=1e-5)
    assert found.min() >= 0


@pytest.mark.parametrize(
    "wrong", [{"context": -1}, {"radius": -1}, {"topk": 0}, {"temperature": 0.0}]
)
def test_a_rule_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecError, match=f"{next(iter(wrong))}=.*must be"):
        Propagation(**wrong)  # type: ignore[arg-type]


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        Propagator(Propagation(), torch.ones(2, 2, 3), seeds(2, 2)).step(torch.ones(2, 3, 3))


# frames


@pytest.mark.parametrize(
    ("native", "patch", "size"),
    [
        ((480, 854), 16, (480, 832)),
        ((480, 910), 8, (480, 896)),
        ((854, 480), 16, (832, 480)),
        ((1080, 1920), 16, (480, 832)),
        ((480, 480), 16, (480, 448)),
        ((480, 854), 14, (476, 826)),
        ((48, 64), 4, (480, 640)),
    ],
)
def test_frames_have_the_protocols_size(
    native: tuple[int, int], patch: int, size: tuple[int, int]
) -> None:
    assert frame_size(native, 480, 64, patch) == size


def test_small_frames_keep_their_size_under_a_small_multiple() -> None:
    assert frame_size((48, 64), 48, 4, 4) == (48, 64)
    assert frame_size((48, 64), 48, 64, 4) == (48, 64)
    assert frame_size((48, 60), 48, 64, 4) == (48, 0)


@pytest.mark.parametrize("size", [(48, 83), (30, 20), (100, 171), (48, 85), (1, 1)])
def test_resized_pixels_are_bilinear_without_antialiasing(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 85, 3), dtype=np.uint8)
    found = resized(pixels, size)
    assert abs(found - bilinear(pixels, size)).max() < 1
    assert size != (48, 85) or np.array_equal(found, pixels)


@pytest.mark.parametrize(
    ("size", "checksum"),
    [((48, 80), 1664314462), ((30, 20), 229167579), ((100, 171), 4179762330)],
)
def test_resized_pixels_equal_opencv(size: tuple[int, int], checksum: int) -> None:
    """CRC-32 of what cv2.resize gives for these pixels, in OpenCV 4.14 and in 5.0."""
    pixels = (np.arange(48 * 85 * 3) ** 2 % 251).astype(np.uint8).reshape(48, 85, 3)
    assert zlib.crc32(resized(pixels, size).tobytes()) == checksum


def test_a_frame_of_another_size_is_refused() -> None:
    transform = FrameTransform((48, 85), (48, 80))
    pixels = transform(Image.new("RGB", (85, 48), (1, 2, 3)))
    assert pixels.shape == (3, 48, 80)
    assert pixels[:, 5, 7].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="64 x 48 pixels, expected 85 x 48"):
        transform(Image.new("RGB", (64, 48)))


# masks in and out


def test_seeds_are_the_nearest_pixels_and_void_is_background() -> None:
    labels = np.zeros((32, 48), dtype=np.uint8)
    labels[:16, :16], labels[16:, 32:], labels[8, 24] = 1, 255, 2
    assert seed_labels(labels, (2, 3)).tolist() == [[1, 2, 0], [0, 0, 0]]
    labels[8, 24], labels[7, 23] = 0, 2
    assert seed_labels(labels, (2, 3)).max() == 1, "an object may lose all of its patches"


def test_nearest_takes_the_pixel_under_each_centre() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (13, 29), dtype=np.uint8)
    for size in ((5, 7), (40, 31), (13, 29)):
        rows = [math.floor((i + 0.5) * 13 / size[0]) for i in range(size[0])]
        columns = [math.floor((j + 0.5) * 29 / size[1]) for j in range(size[1])]
        assert np.array_equal(resized_labels(labels, size), labels[np.ix_(rows, columns)])


def test_masks_are_read_out_after_each_channel_is_stretched() -> None:
    soft = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1, 0.2, 0]
    )
    channels = soft.double().numpy()
    large = bilinear(channels, (24, 30))
    stretched = np.zeros_like(large)
    for channel in (0, 1):  # the third is zero
        part = large[..., channel]
        stretched[..., channel] = (part - part.min()) / (part.max() - part.min())
    expected = stretched.argmax(2)
    assert set(np.unique(expected)) == {0, 1}
    assert np.array_equal(read_out(soft, 6, (24, 30)), expected)
    twice = read_out(soft, 6, (48, 60))
    assert np.array_equal(twice, expected.repeat(2, 0).repeat(2, 1))


def test_a_channel_that_is_the_same_all_over_wins_unless_it_is_zero() -> None:
    soft = torch.zeros(3, 4, 3)
    soft[..., 0], soft[1, 1, 2] = 1, 0.5
    assert not read_out(soft, 4, (12, 16)).any()
    soft[..., 0], soft[..., 1] = 0, 1
    assert (read_out(soft, 4, (12, 16)) == 1).all()
