"""Spec strings: what is parsed prints canonically, what is malformed is explained."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from bench.errors import SpecError
from bench.spec import (
    DatasetPart,
    Spec,
    bind,
    parse,
    parse_dataset,
    parse_list,
    unbind,
)
from bench.values import non_default


@dataclass(frozen=True)
class Inner:
    width: int = 3


@dataclass(frozen=True, kw_only=True)
class Protocol:
    title: ClassVar[str] = "not a field"
    k: int = 20
    lr: float = 0.1
    flip: bool = True
    name: str = "knn"
    pool: Literal["cls", "avg"] = "cls"
    patch: Literal[8, 16] = 16
    clip: float | None = None
    lrs: tuple[float, ...] = (0.1, 0.01)
    layers: tuple[int, ...] = (-1,)
    recipes: tuple[str, ...] = ()
    scale: tuple[float, float] = (0.2, 1.0)
    steps: int | str = "all"
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("k must be at least 1")


# Parsing


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("knn", "knn"),
        ("knn@imagenet1k", "knn@imagenet1k"),
        ("knn@imagenet1k?T=0.07&k=20", "knn@imagenet1k?k=20&T=0.07"),
        (
            "knn@imagenet1k[seed=0,n=100]+coco?k=20&T=0.07",
            "knn@imagenet1k[n=100,seed=0]+coco?k=20&T=0.07",
        ),
        (" knn @ a [ n = 1 ] ? k = 2 ", "knn@a[n=1]?k=2"),
        ("knn@folder[path=/data/a+b@c?d&e]", "knn@folder[path=/data/a+b@c?d&e]"),
        ("x@a[list=[1,2],n=3]", "x@a[list=[1,2],n=3]"),
        ("train@a?init=timm:vit_small?pretrained=false", None),
        ("knn?layers=", "knn?layers="),
    ],
)
def test_parse_prints_canonically_and_reads_itself_back(text: str, canonical: str | None) -> None:
    spec = parse(text)
    assert str(spec) == (text if canonical is None else canonical)
    assert parse(str(spec)) == spec


def test_parse_takes_apart() -> None:
    spec = parse("knn@imagenet1k[seed=0,n=100]+coco?k=20&T=0.07")
    assert spec.name == "knn"
    assert spec.dataset == (
        DatasetPart("imagenet1k", (("n", "100"), ("seed", "0"))),
        DatasetPart("coco"),
    )
    assert dict(spec.options) == {"k": "20", "T": "0.07"}
    assert spec.dataset_text == "imagenet1k[n=100,seed=0]+coco"
    assert parse_dataset(spec.dataset_text) == spec.dataset


def test_every_spec_reads_itself_back() -> None:
    rng = random.Random(0)
    letters = "ab[]=&?@+,:/. -_19é"

    def pairs() -> tuple[tuple[str, str], ...]:
        keys = rng.sample(["n", "N", "seed", "path"], rng.randrange(4))
        return tuple((key, "".join(rng.choices(letters, k=rng.randrange(6)))) for key in keys)

    read = 0
    for _ in range(5000):
        try:
            parts = tuple(DatasetPart("d.1", pairs()) for _ in range(rng.randrange(3)))
            spec = Spec("knn-2", parts, pairs())
        except SpecError:
            continue  # a value that no text can carry is refused when the spec is made
        assert parse(str(spec)) == spec
        assert str(parse_list(f"{spec},b@x")[0]) == str(
            spec if spec.dataset else Spec(spec.name, (DatasetPart("x"),), spec.options)
        )
        read += 1
    assert read > 500


def test_order_of_options_does_not_matter() -> None:
    assert parse("knn@a[n=1,seed=2]?k=1&T=2") == parse("knn@a[seed=2,n=1]?T=2&k=1")
    assert Spec("knn", (), (("b", "1"), ("a", "2"))) == Spec("knn", (), (("a", "2"), ("b", "1")))


def test_order_of_a_union_does_matter() -> None:
    assert parse("knn@a+b") != parse("knn@b+a")


@pytest.mark.parametrize(
    ("text", "found", "mend"),
    [
        ("", "no method or task name", "NAME@DATASET"),
        ("@imagenet1k", "no method or task name", "NAME@DATASET"),
        ("knn@", "nothing follows '@'", "NAME@DATASET"),
        ("knn@a?", "nothing follows '?'", "?key=value"),
        ("knn@a+", "empty dataset", "DATASET+DATASET"),
        ("knn@a[n=1", "never closed", "add ']'"),
        ("knn@an=1]", "']' without '['", "NAME[key=value"),
        ("knn@a[n=1]b", "'b' behind ']'", "NAME[key=value]"),
        ("knn@a[n]", "'n' has no value", "n=VALUE"),
        ("knn@a[n=]", "'n' has no value", "n=VALUE"),
        ("knn@a[]", "'' has no value", "=VALUE"),
        ("knn@a?k", "'k' has no value", "k=VALUE"),
        ("knn@a?k=1&&T=2", "'' has no value", "=VALUE"),
        ("knn@a?k=1&k=2", "'k' twice", "keep one"),
        ("knn@a?lr=0.1,0.2", "','", "':'"),
        ("knn@a?1k=2", "'1k' as option key", "key=value"),
        ("k nn@a", "'k nn'", "letters, digits"),
        ("knn@/data/photos", "'/data/photos'", "folder[path=/data/photos]"),
    ],
)
def test_malformed_text_is_explained(text: str, found: str, mend: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert found in str(caught.value)
    assert mend in str(caught.value)
    assert "\n" not in str(caught.value)


# Lists


def test_a_name_without_dataset_takes_the_next_to_its_right() -> None:
    def texts(text: str) -> list[str]:
        return [str(spec) for spec in parse_list(text)]

    assert texts("knn,linear@x") == ["knn@x", "linear@x"]
    assert texts("a,b@x,c,d@y[n=1,seed=2]+z") == [
        "a@x",
        "b@x",
        "c@y[n=1,seed=2]+z",
        "d@y[n=1,seed=2]+z",
    ]
    assert texts("knn?k=5,linear@x?lr=1") == ["knn@x?k=5", "linear@x?lr=1"]
    assert texts("knn@x,franka_kitchen") == ["knn@x", "franka_kitchen"]


@pytest.mark.parametrize("text", ["", "knn@x,", ",knn@x", "a@x,,b@x"])
def test_an_empty_item_of_a_list_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="empty item"):
        parse_list(text)


# Options


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("k", "5", 5),
        ("lr", "1", 1.0),
        ("lr", "1e-3", 0.001),
        ("flip", "false", False),
        ("flip", "Yes", True),
        ("flip", "0", False),
        ("name", "none", "none"),
        ("pool", "avg", "avg"),
        ("patch", "8", 8),
        ("clip", "none", None),
        ("clip", "3", 3.0),
        ("lrs", "0.5:1", (0.5, 1.0)),
        ("lrs", "0.5", (0.5,)),
        ("layers", "", ()),
        ("layers", "-4:-1", (-4, -1)),
        ("recipes", "cls:cls+avg", ("cls", "cls+avg")),
        ("scale", "0.4:1", (0.4, 1.0)),
        ("steps", "100", 100),
        ("steps", "some", "some"),
    ],
)
def test_bind_converts_by_annotation(key: str, text: str, value: Any) -> None:
    found = getattr(bind(Protocol, {key: text}), key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("kk", "5", "did you mean 'k'"),
        ("title", "x", "has no option 'title'"),
        ("k", "5.5", "whole number"),
        ("k", "many", "whole number"),
        ("k", "", "whole number"),
        ("lr", "nan", "finite"),
        ("lr", "inf", "finite"),
        ("flip", "maybe", "true or false"),
        ("pool", "clss", "did you mean 'cls'"),
        ("clip", "x", "a number, or none"),
        ("lrs", "0.1,0.2", "separated by ':'"),
        ("lrs", "0.1:x", "item 'x'"),
        ("scale", "0.1", "expected 2 items"),
        ("inner", "3", "Inner"),
        ("k", "0", "k must be at least 1"),
    ],
)
def test_bind_explains_what_it_refuses(key: str, text: str, said: str) -> None:
    with pytest.raises(SpecError, match="Protocol") as caught:
        bind(Protocol, {key: text})
    assert said in str(caught.value)


def test_bind_never_evaluates_text() -> None:
    with pytest.raises(SpecError):
        bind(Protocol, {"k": "__import__('os').getpid()"})


def test_options_override_a_preset_and_the_preset_is_checked_too() -> None:
    preset = {"k": 10, "lr": 1, "lrs": [1, 2], "name": "a"}
    bound = bind(Protocol, {"k": "5"}, preset)
    assert (bound.k, bound.lr, bound.lrs, bound.name) == (5, 1.0, (1.0, 2.0), "a")
    for wrong in ({"q": 1}, {"k": True}, {"k": 1.5}, {"lr": [1]}, {"flip": 1}, {"name": 3}):
        with pytest.raises(SpecError):
            bind(Protocol, {}, wrong)


def test_bind_names_what_is_missing() -> None:
    @dataclass(frozen=True)
    class Needy:
        root: str
        k: int = 1

    with pytest.raises(SpecError, match=r"Needy needs root; write \?root=VALUE"):
        bind(Needy, {"k": "3"})
    assert bind(Needy, {"root": "/x"}).root == "/x"


# What differs from the defaults


def test_the_default_protocol_has_no_fields() -> None:
    assert non_default(Protocol()) == {}
    assert non_default(bind(Protocol, {"k": "20", "lrs": "0.1:0.01", "clip": "none"})) == {}


def test_non_default_is_canonical_json() -> None:
    changed = Protocol(lr=1, lrs=(1, 0.5), clip=2, inner=Inner(width=4))  # ints in float fields
    found = non_default(changed)
    assert found == {"lr": 1.0, "lrs": [1.0, 0.5], "clip": 2.0, "inner": {"width": 4}}
    assert [type(found["lr"]), type(found["lrs"][0])] == [float, float]


def test_a_field_without_default_always_counts() -> None:
    @dataclass(frozen=True)
    class Needy:
        root: str

    assert non_default(Needy("/x")) == {"root": "/x"}


def test_unbind_is_the_inverse_of_bind() -> None:
    instance = Protocol(k=3, flip=False, clip=0.5, lrs=(), scale=(0.25, 0.5), pool="avg", steps=7)
    assert bind(Protocol, dict(unbind(instance))) == instance
    assert str(Spec("knn", (), unbind(instance))) == (
        "knn?clip=0.5&flip=false&k=3&lrs=&pool=avg&scale=0.25:0.5&steps=7"
    )
