"""The sheet of training views: what is chosen, what is shown and where; `ray-st augment`."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image

from ray_st.cli import main
from ray_st.config import UserError
from ray_st.data.augment import AugmentConfig, view
from ray_st.data.images import Source, fetch
from ray_st.data.labels import ClassLabel, Detections, Labels, Origin, SegmentationMap
from ray_st.data.rows import pack, unpack
from ray_st.data.sources import LabeledSet, open_labeled
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.report.augmented import Showing, augmented_sheet, policies
from ray_st.report.drawing import Drawing, Swatch
from ray_st.report.lettering import font, shortened, wrapped
from ray_st.report.palette import LIGHT
from ray_st.report.sampling import MAX_UNREADABLE, sample
from ray_st.report.sheet import GAP_PX, LINE_PX, MARGIN_PX, TITLES_PX, Sheet, SheetRow

pytestmark = pytest.mark.pure

SIDE = 48  # of the scenes, their views and the pictures: nothing is resized for the sheet
WORLD = DigitsConfig(
    labeled_scenes=6, val_scenes=2, pool_scenes=2, labeled_digits=10, classes=(3, 8),
    scene_px=SIDE, digits_per_scene=(1, 2),
)  # fmt: skip
KINDS: dict[str, type[Labels]] = {
    "detection": Detections, "segmentation": SegmentationMap, "classification": ClassLabel,
}  # fmt: skip


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LabeledSet]:
    """The same few scenes with labels of each kind."""
    opened = {}
    for task, kind in KINDS.items():
        data = write_world(tmp_path_factory.mktemp(task), WORLD, kind)
        opened[task] = open_labeled(data.train)
    return opened


def showing(classes: Sequence[str] = (), **changes: Any) -> Showing:
    fields = {"recipe": AugmentConfig(), "magnitudes": (10.0,), "seed": 0, **changes}
    return Showing(size_px=SIDE, side_px=SIDE, classes=classes, **fields)


def plain(colour: str, size: tuple[int, int] = (SIDE, SIDE), **fields: Any) -> Drawing:
    return Drawing(canvas=Image.new("RGB", size, colour), caption="", words="", **fields)


def test_every_picture_stands_in_its_row_and_column() -> None:
    colours = [["#ff0000", "#00ff00"], ["#0000ff", "#ffff00"]]
    rows = [SheetRow(title="", notes=[], drawings=[*map(plain, line)]) for line in colours]
    sheet = Sheet(title="", notes=[], columns=["", ""], rows=rows, side_px=SIDE)
    picture = sheet.picture()
    assert picture.width == 2 * MARGIN_PX + TITLES_PX + 2 * SIDE + GAP_PX
    pixels = np.asarray(picture)
    tops = []
    for line in colours:
        for column, colour in enumerate(line):
            rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            found = np.argwhere((pixels == rgb).all(axis=2))
            assert len(found) == SIDE**2
            top, left = found.min(axis=0).tolist()
            assert found.max(axis=0).tolist() == [top + SIDE - 1, left + SIDE - 1]
            assert left == MARGIN_PX + TITLES_PX + column * (SIDE + GAP_PX)
            tops.append(top)
    assert tops[0] == tops[1] < tops[2] == tops[3]
    assert tops[2] - tops[0] == SIDE + LINE_PX + GAP_PX  # a line for the caption
    assert picture.height == tops[3] + SIDE + LINE_PX + MARGIN_PX


def test_a_row_is_as_high_as_its_tallest_picture_or_its_notes() -> None:
    drawings = [plain("red", (SIDE, 20)), plain("red", (30, SIDE))]
    assert SheetRow(title="", notes=[], drawings=drawings).height_px == SIDE + LINE_PX
    notes = ["a line"] * 5
    assert SheetRow(title="", notes=notes, drawings=drawings).height_px == 6 * LINE_PX


def test_long_words_stay_on_the_sheet() -> None:
    swatches = tuple(Swatch(i, f"things that are {i} {'w' * 9 * i}", "#123456") for i in range(9))
    drawing = plain("red", legend=swatches)
    long = "some words that are too long for so few pictures " * 5
    row = SheetRow(title=long, notes=[long], drawings=[replace(drawing, caption=long)])
    sheet = Sheet(title=long, notes=[long], columns=[long], rows=[row], side_px=SIDE)
    pixels = np.asarray(sheet.picture())
    paper = [int(LIGHT["paper"][i : i + 2], 16) for i in (1, 3, 5)]
    drawn = np.argwhere((pixels != paper).any(axis=2))
    assert drawn.min() >= MARGIN_PX - 1
    high, wide = drawn.max(axis=0).tolist()
    assert wide <= sheet.width_px - MARGIN_PX + 1
    assert high <= len(pixels) - MARGIN_PX + 1


def test_the_legend_takes_room_only_where_there_is_one() -> None:
    row = SheetRow(title="", notes=[], drawings=[plain("red")])
    bare = Sheet(title="", notes=[], columns=[""], rows=[row], side_px=SIDE)
    swatches = (Swatch(0, "sky", "#12fe34"), Swatch(255, "no label", ""))
    coloured = replace(row, drawings=[plain("red", legend=swatches)])
    picture = replace(bare, rows=[coloured, coloured]).picture()
    assert picture.height > replace(bare, rows=[row, row]).picture().height
    found = (np.asarray(picture) == [0x12, 0xFE, 0x34]).all(axis=2)
    assert 0 < found.sum() <= 15**2  # once for both rows


@pytest.mark.parametrize("text", ["", "a", "abc", "BloodImage_00001.jpg", "x" * 300])
def test_a_text_is_shortened_in_its_middle_and_no_more_than_needed(text: str) -> None:
    letters = font(14)
    assert shortened(text, letters, 10_000) == text
    short = shortened(text, letters, 60)
    assert letters.getlength(short) <= 60
    if short != text:
        head, tail = short.split("…")
        assert text.startswith(head)
        assert text.endswith(tail)
        assert 0 <= len(tail) - len(head) <= 1


def test_a_text_is_wrapped_between_words() -> None:
    letters = font(14)
    text = "one two three four five " + "x" * 50
    lines = wrapped(text, letters, 80)
    assert " ".join(lines) == text
    assert all(letters.getlength(line) <= 80 for line in lines[:-1])
    assert lines[-1] == "x" * 50
    assert wrapped("", letters, 80) == []


def rows_of(folder: Path, count: int, *, bare: Sequence[int] = (), bad: Sequence[int] = ()) -> Any:
    """Images of which some have no box and some are no images."""
    for i in range(count):
        Image.new("RGB", (40, 30), (i, 0, 0)).save(folder / f"{i}.png")
    for i in bad:
        (folder / f"{i}.png").write_bytes(b"no image")
    labels = [Detections.of() if i in bare else Detections.of([[1, 2, 9, 8]], [0])
              for i in range(count)]  # fmt: skip
    return pack(
        image_ids=range(count),
        uris=[str(folder / f"{i}.png") for i in range(count)],
        sizes_hw=[(30, 40)] * count,
        labels=labels,
        origin=Origin.HUMAN,
    )


@pytest.mark.parametrize(
    ("count", "bare", "bad", "chosen"),
    [
        (1, [], [], [0]),
        (3, [], [], [0, 1, 2]),
        (4, [], [], [0, 1, 2, 3]),
        (13, [], [], [0, 4, 8, 12]),
        (13, [4], [], [0, 2, 8, 12]),  # of eight that are spread: 0 2 3 5 7 9 10 12
        (13, [4], [2, 12], [0, 3, 5, 8]),
        (5, [0, 1, 2, 3], [], [0, 1, 3, 4]),  # those without labels fill up
        (5, [0, 1, 2, 3], [4], [0, 1, 2, 3]),
    ],
)
def test_a_sample_is_spread_and_readable_and_prefers_labels(
    tmp_path: Path, count: int, bare: list[int], bad: list[int], chosen: list[int]
) -> None:
    rows = rows_of(tmp_path, count, bare=bare, bad=bad)
    for _ in range(2):
        found = sample(rows, 4)
        assert found.rows["image_id"].to_pylist() == chosen
        assert [np.asarray(picture)[0, 0, 0] for picture in found.pictures] == chosen
        named = {line.partition(":")[0] for line in found.unreadable}
        assert named == {f"{i}.png" for i in bad}
        assert all(": decode: not an image" in line for line in found.unreadable)


def test_a_set_that_cannot_be_read_is_given_up_soon(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, MAX_UNREADABLE + 10, bad=range(MAX_UNREADABLE + 10))
    with pytest.raises(UserError) as caught:
        sample(rows, 4)
    assert str(caught.value) == (
        f"data.train: must hold images that can be read, got {MAX_UNREADABLE} that cannot, first "
        "0.png: decode: not an image of a known format (JPEG, PNG, PPM, BMP, TIFF, WEBP, GIF); "
        "check the files"
    )


def test_the_policies_are_the_recipe_and_the_papers() -> None:
    recipe = AugmentConfig(flip_probability=0, colour_jitter=0.5)
    named = {title: policy for policy, title in policies(recipe, (5, 10)).items()}
    assert [*named] == ["This recipe", "S2", "S3", "S4, magnitude 5", "S4, magnitude 10"]
    assert named.pop("This recipe") == recipe  # it is S1, which has no second row
    for title, policy in named.items():
        level = {"magnitude": float(title.split()[-1])} if policy.policy == "S4" else {}
        own = {"flip_probability": 0, "colour_jitter": 0.5}
        assert policy == AugmentConfig(policy=title[:2], **own, **level)
    own = replace(recipe, scale_jitter=(0.9, 1.1))
    others = [*policies(own, (5, 10))]
    assert others == [own, recipe, *named.values()]


def test_what_a_recipe_sets_for_its_policy_holds_where_it_can() -> None:
    strong = AugmentConfig(policy="S4", operations=("Invert",), layers=3, reference_px=0)
    named = {title: policy for policy, title in policies(strong, (10, 10, 2.5)).items()}
    assert [*named] == ["This recipe", "S1", "S2", "S3", "S4, magnitude 2.5"]
    assert named["S4, magnitude 2.5"] == replace(strong, magnitude=2.5)
    assert named["S1"] == AugmentConfig()
    assert named["S3"] == AugmentConfig(policy="S3", reference_px=0)
    learned = AugmentConfig(policy="S2", autoaugment="v3", sub_policies=("Invert 1/1",))
    named = {title: policy for policy, title in policies(learned, ()).items()}
    assert [*named] == ["This recipe", "S1", "S3"]
    assert named["S3"] == replace(learned, policy="S3")
    narrow = replace(learned, scale_jitter=(1, 1))
    assert [*policies(narrow, ())][1:] == [named["S1"], learned, named["S3"]]


def expected_views(rows: Any, policy: AugmentConfig, seed: int) -> list[tuple[np.ndarray, Labels]]:
    """The views of epoch 0 by their definition, one by one."""
    made = []
    for uri, image_id, labels in zip(
        rows["uri"].to_pylist(), rows["image_id"].to_pylist(), unpack(rows), strict=True
    ):
        rng = np.random.default_rng([2 * seed, image_id, 0])  # the human stream of that seed
        made.append(view(Source(fetch(uri)), labels, SIDE, rng, policy))
    return made


def untouched(drawing: Drawing, labels: Labels) -> np.ndarray:
    """Pixels of a view over which nothing is drawn."""
    free = np.ones((SIDE, SIDE), bool)
    if isinstance(labels, Detections):
        for left, top, right, bottom in labels.boxes_xyxy.round().astype(int).tolist():
            rim = np.zeros_like(free)
            rim[max(0, top - 3) : bottom + 4, max(0, left - 3) : right + 4] = True
            rim[top + 4 : bottom - 3, left + 4 : right - 3] = False
            free &= ~rim
    return free


@pytest.mark.parametrize("task", ["detection", "classification"])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_cell_is_the_view_that_training_shows(
    worlds: dict[str, LabeledSet], task: str, seed: int
) -> None:
    human = worlds[task]
    chosen = sample(human.rows, 3)
    shown = showing(human.classes, seed=seed)
    rows = augmented_sheet(chosen, shown).rows
    assert [row.title for row in rows] == ["Source", "This recipe", "S2", "S3", "S4, magnitude 10"]
    for drawing, picture in zip(rows[0].drawings, chosen.pictures, strict=True):
        assert drawing.canvas.size == picture.size
    policy_rows = zip(policies(shown.recipe, shown.magnitudes), rows[1:], strict=True)
    for policy, row in policy_rows:
        views = expected_views(chosen.rows, policy, seed)
        for drawing, (pixels, labels) in zip(row.drawings, views, strict=True):
            free = untouched(drawing, labels)
            assert free.mean() > 0.1
            np.testing.assert_array_equal(np.asarray(drawing.canvas)[free], pixels[free])
            if isinstance(labels, Detections):
                assert drawing.caption == f"{len(labels)} box{'' if len(labels) == 1 else 'es'}"
                assert not np.array_equal(np.asarray(drawing.canvas), pixels) or not len(labels)
            else:
                assert drawing.caption in ("3", "8")


def test_a_class_map_is_laid_over_its_view(worlds: dict[str, LabeledSet]) -> None:
    human = worlds["segmentation"]
    chosen = sample(human.rows, 3)
    sheet = augmented_sheet(chosen, showing(human.classes, recipe=AugmentConfig(policy="S3")))
    ground = Swatch(0, "ground", "#5f5f5f")
    assert all(ground in drawing.legend for row in sheet.rows for drawing in row.drawings)
    (row,) = (row for row in sheet.rows if row.title == "This recipe")
    views = expected_views(chosen.rows, AugmentConfig(policy="S3"), 0)
    for drawing, (pixels, labels) in zip(row.drawings, views, strict=True):
        assert isinstance(labels, SegmentationMap)
        flat = np.zeros((SIDE, SIDE), bool)  # ground whose neighbours are ground: no edge is drawn
        is_ground = labels.class_map == 0
        flat[:-1, :-1] = is_ground[:-1, :-1] & is_ground[1:, :-1] & is_ground[:-1, 1:]
        assert flat.any()
        mixed = (pixels[flat].astype(float) + 95) / 2
        np.testing.assert_allclose(np.asarray(drawing.canvas)[flat], mixed, atol=0.51)


def test_an_image_that_goes_away_is_one_line(tmp_path: Path) -> None:
    chosen = sample(rows_of(tmp_path, 2), 2)
    (tmp_path / "1.png").unlink()
    with pytest.raises(UserError, match=r"^data\.train: .*1\.png could be read before, got "):
        augmented_sheet(chosen, showing())


RECIPE = """
task: {task}
digits: {{labeled_scenes: 6, labeled_digits: 10, classes: [3, 8], scene_px: 48,
         digits_per_scene: [1, 2]}}
model: {{backbone: test_resnet, image_size_px: 64, levels: [3, 5]}}
train: {{steps: 5}}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Writes a recipe of a demo world, and gives the command."""
    monkeypatch.chdir(tmp_path)

    def written(task: str) -> list[str]:
        Path("recipe.yaml").write_text(RECIPE.format(task=task))
        return ["augment", "--config", "recipe.yaml", "--side-px", "64"]

    return written


@pytest.mark.parametrize("task", [*KINDS])
def test_a_demo_recipe_is_drawn_at_once_and_always_the_same(
    recipe: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str], task: str
) -> None:
    words = [*recipe(task), "--out", "new/folder/a.PNG"]
    assert main(words) == 0
    assert capsys.readouterr() == ("sheet      new/folder/a.PNG\n", "")
    assert not ray.is_initialized()
    first = Path("new/folder/a.PNG").read_bytes()
    with Image.open(io.BytesIO(first)) as picture:
        assert picture.format == "PNG"
        assert picture.width == 2 * MARGIN_PX + TITLES_PX + 4 * 64 + 3 * GAP_PX
    assert main([*words, "--overwrite"]) == 0
    assert Path("new/folder/a.PNG").read_bytes() == first
    assert sorted(path.name for path in Path("new/folder").iterdir()) == ["a.PNG"]


def test_images_of_ones_own(
    recipe: Callable[[str], list[str]],
    worlds: dict[str, LabeledSet],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = ["--data.train", f"coco:{worlds['detection'].uri}", "--data.labeled-images", "2"]
    assert main([*recipe("detection"), *data, "--magnitudes"]) == 0
    with Image.open("sheet.png") as picture:  # two columns, for two labelled images
        assert picture.width == 2 * MARGIN_PX + TITLES_PX + 2 * 64 + GAP_PX
    capsys.readouterr()
    assert main([*recipe("detection"), *data, "--dry-run", "--out", "other.png"]) == 0
    assert capsys.readouterr().out == (
        "# dry run: 2 of 2 images would be drawn; nothing was written\n"
    )
    assert not Path("other.png").exists()


def test_images_that_cannot_be_read_are_named(
    recipe: Callable[[str], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_world(tmp_path / "world", WORLD, Detections)
    images = sorted((tmp_path / "world/images/train").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:300])
    command = [*recipe("detection"), "--data.train", "coco:world/instances_train.json"]
    assert main(command) == 0
    skipped, sheet = capsys.readouterr().out.splitlines()
    assert skipped.startswith("skipped    000000.jpg: decode: ")
    assert sheet == "sheet      sheet.png"
    for image in images:
        image.write_bytes(b"")
    assert main([*command, "--out", "none.png"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("ray-st: data.train: must hold images that can be read, got 6 that ")
    assert line.count("\n") == 1
    assert not Path("none.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "sheet.jpg"], "out: must be the name of a PNG file, got 'sheet.jpg'; "),
        (["--out", "folder.png"], "out: folder.png is a folder; pass --out with the name of a "),
        (["--out", "old.png"], "out: old.png is there; pass --overwrite to replace it, or "),
        (["--out", "text.png", "--overwrite"], "out: text.png is there and no PNG picture; "),
        (["--out", "old.png/new.png"], "out: old.png is a file, no folder; pass another --out"),
        (["--images", "0"], "images: must be from 1 to 20, got 0"),
        (["--side-px", "5000"], "side_px: must be from 64 to 1024, got 5000"),
        (["--train.seed", "-1"], "train.seed: must be 0 or more, got -1"),
        (["--magnitudes", "5", "31"], "magnitudes: must be from 0 to 30, got 31.0; "),
        (["--augment.policy", "S5"], "augment.policy: must be one of 'S1', 'S2', 'S3', 'S4', got"),
        (["--digits.labeled-digits", "5000"], "digits.labeled_digits: must be at most "),
        (["--data.train", "coco:/none.json"], "/none.json: a COCO file must be readable, got "),
        (["--task", "classification", "--data.train", "TRAIN"], "data.train: this task learns "),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    recipe: Callable[[str], list[str]],
    worlds: dict[str, LabeledSet],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    Path("folder.png").mkdir()
    Image.new("RGB", (1, 1)).save("old.png")
    Path("text.png").write_text("all of my thesis")
    words = [word.replace("TRAIN", f"coco:{worlds['detection'].uri}") for word in words]
    command = [*recipe("detection"), *words]
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"ray-st: {said}")
    assert err.count("\n") == 1
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == before


@pytest.mark.parametrize("words", [[], ["--config", "detection"]])
def test_a_recipe_without_images(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["augment", *words]) == 2
    assert capsys.readouterr().err == (
        "ray-st: data.train: is missing; pass --data.train with images of your own, "
        "or --config demo for scenes of digits\n"
    )
    assert not [*tmp_path.iterdir()]
