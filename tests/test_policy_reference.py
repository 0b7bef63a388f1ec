"""What a policy chooses equals a slow reading of docs/policy.md, object by object."""

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_st.data.labels import IGNORE, ClassLabel, Detections, Origin, SegmentationMap
from ray_st.data.rows import label_row, pack, unpack
from ray_st.labeling.policy import Holdout, PolicyConfig, choose, pseudo_labels
from ray_st.labeling.policy.ranking import nth_keys
from ray_st.labeling.policy.tally import Tally

pytestmark = pytest.mark.pure

CLASSES = ("cat", "traffic light", "dog")
# Few values, so that scores tie and meet thresholds; some of them are no float32.
SCORES = [0.01, 0.1, 0.3, 0.3, 0.5, 0.55, 0.7, 0.9, 1.0]


def rows(labels, kind):
    return pack(
        image_ids=[3 * i + 1 for i in range(len(labels))],
        uris=[f"{i}.jpg" for i in range(len(labels))],
        sizes_hw=[(60, 60)] * len(labels),
        labels=labels,
        origin=Origin.HUMAN,
        kind=kind,
    )


# -- the reference: boxes are dicts, rules are loops -----------------------------------------------


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def slow_nms(image, policy):
    left, taken = [dict(one) for one in image], []
    while left:
        best = max(left, key=lambda one: one["score"])  # the first of equals
        left = [one for one in left if one is not best]
        taken.append(best)
        for one in list(left):
            overlap = iou(best["box"], one["box"]) if one["class"] == best["class"] else 0.0
            if policy.nms == "hard" and overlap > policy.nms_iou:
                left = [each for each in left if each is not one]
            if policy.nms == "soft":
                one["score"] *= np.exp(np.float32(overlap**2 / (-2 * policy.soft_nms_sigma)))
    return taken


def slow_thresholds(scored, policy, reached):
    """`scored`: (class, score) of all that may become labels; `reached`: from the hold-out."""
    thresholds = []
    named = dict(text.rsplit(" ", 1) for text in policy.class_thresholds)
    for k, name in enumerate(CLASSES):
        mine = sorted((score for c, score in scored if c == k), reverse=True)
        threshold = policy.score_threshold
        if policy.target_precision is not None:
            threshold = reached[k]
        if policy.balance_share is not None:
            keep = max(1, round(policy.balance_share * len(mine)))
            threshold = mine[keep - 1] if mine else 0.0
        if name in named:
            threshold = float(named[name])
        if policy.max_per_class is not None and len(mine) >= policy.max_per_class:
            threshold = max(threshold, mine[policy.max_per_class - 1])
        thresholds.append(threshold)
    return thresholds


def slow_boxes(images, policy, reached=None):
    if policy.nms != "none":
        images = [slow_nms(image, policy) for image in images]
    large = [[o for o in image if min(sides(o)) >= policy.min_size_px] for image in images]
    scored = [(one["class"], one["score"]) for image in large for one in image]
    thresholds = slow_thresholds(scored, policy, reached)
    chosen = []
    for image, candidates in zip(images, large, strict=True):
        kept = [o for o in candidates if at_least(o["score"], thresholds[o["class"]])]
        if policy.max_per_image is not None:
            best = sorted(kept, key=lambda one: -one["score"])[: policy.max_per_image]
            kept = [one for one in kept if any(one is each for each in best)]
        out = []
        for one in image:
            if any(one is each for each in kept):
                out.append((one, False))
            elif policy.ignore_from is not None and at_least(one["score"], policy.ignore_from):
                out.append((one, True))
        chosen.append(out)
    return chosen


def sides(one):
    left, top, right, bottom = one["box"]
    return right - left, bottom - top


def at_least(score, threshold):
    """Scores are float32, and so is a threshold beside them."""
    return np.float32(score) >= np.float32(threshold)


# -- what is drawn ---------------------------------------------------------------------------------


@st.composite
def boxes(draw):
    left, top = draw(st.integers(0, 8)), draw(st.integers(0, 8))
    return {
        "box": (left, top, left + draw(st.integers(1, 12)), top + draw(st.integers(1, 12))),
        "class": draw(st.integers(0, len(CLASSES) - 1)),
        "score": np.float32(draw(st.sampled_from(SCORES))),
    }


images_of_boxes = st.lists(st.lists(boxes(), max_size=7), max_size=6)


@st.composite
def policies(draw, *, of_boxes, tied=True):
    fields = {}
    rule = draw(st.sampled_from(["score", "score", "share", "precision"]))
    if rule == "share":
        fields["balance_share"] = draw(st.sampled_from([0.01, 0.2, 1 / 3, 0.5, 0.8, 1.0]))
    elif rule == "precision":
        fields["target_precision"] = draw(st.sampled_from([0.0, 0.5, 0.75, 1.0]))
    else:
        fields["score_threshold"] = draw(st.sampled_from([0.0, 0.3, 0.5, 0.6, 1.0]))
    if draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(CLASSES), unique=True, max_size=2))
        scores = st.sampled_from([0.0, 0.3, 0.7, 1.0])
        fields["class_thresholds"] = tuple(f"{name} {draw(scores)}" for name in names)
    if of_boxes is None:
        return PolicyConfig(**fields)
    if draw(st.booleans()):
        fields["max_per_class"] = draw(st.integers(1, 6))
    if not of_boxes:
        return PolicyConfig(**fields)
    if draw(st.booleans()):
        fields["max_per_image"] = draw(st.integers(1, 4))
    if draw(st.booleans()):
        fields["min_size_px"] = draw(st.sampled_from([0.5, 3.0, 6.0]))
    highest = fields.get("score_threshold", 1.0)
    if highest > 0.1 and draw(st.booleans()):
        fields["ignore_from"] = draw(st.sampled_from([0.0, 0.1, 0.29]))
    nms = draw(st.sampled_from(["none", "none", "hard", "soft"]))
    fields["nms"] = nms
    if nms == "hard":
        fields["nms_iou"] = draw(st.sampled_from([0.0, 0.2, 0.5]))
    if nms == "soft":
        fields["soft_nms_sigma"] = draw(st.sampled_from([0.1, 0.3]))
    return PolicyConfig(**fields)


def detections(image):
    return Detections.of(
        [one["box"] for one in image],
        [one["class"] for one in image],
        scores=[one["score"] for one in image],
    )


def require_same(found, expected):
    """The same boxes in any order, with the same scores up to rounding."""
    columns = (found.boxes_xyxy.tolist(), found.class_ids, found.is_crowd, found.scores)
    mine = sorted((*box, int(k), bool(c), float(s)) for box, k, c, s in zip(*columns, strict=True))
    theirs = sorted((*one["box"], one["class"], c, float(one["score"])) for one, c in expected)
    assert [one[:-1] for one in mine] == [one[:-1] for one in theirs]
    assert [one[-1] for one in mine] == pytest.approx([one[-1] for one in theirs], rel=1e-4)


def slow_precision(scored, target):
    """Lowest score of a class at which enough of what reaches it is right; `scored`: triples."""
    reached = []
    for k in range(len(CLASSES)):
        mine = [(score, right) for c, score, right in scored if c == k]
        enough = []
        for threshold in {score for score, _ in mine}:
            rights = [right for score, right in mine if score >= threshold]
            if sum(rights) / len(rights) >= target:
                enough.append(threshold)
        reached.append(min(enough, default=np.inf))
    return reached


def slow_right(truths, images):
    """(class, score, right) of every prediction: the best first takes the best free object."""
    scored = []
    for truth, image in zip(truths, images, strict=True):
        free = list(truth)
        for one in sorted(image, key=lambda one: -one["score"]):
            near = [t for t in free if t["class"] == one["class"]]
            best = max(near, key=lambda t: iou(t["box"], one["box"]), default=None)
            right = best is not None and iou(best["box"], one["box"]) >= 0.5
            free = [t for t in free if not (right and t is best)]
            scored.append((one["class"], one["score"], right))
    return scored


# -- detection -------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(images_of_boxes, policies(of_boxes=True), st.data())
def test_boxes_equal_the_reference(images, policy, data):
    reached, holdout = None, None
    if policy.target_precision is not None:
        seen = data.draw(images_of_boxes)
        truths = [[dict(o) for o in image if data.draw(st.booleans())] for image in seen]
        holdout = Holdout(
            truths=rows([detections(t) for t in truths], Detections),
            predictions=rows([detections(image) for image in seen], Detections),
        )
        left = [slow_nms(i, policy) if policy.nms != "none" else i for i in seen]
        left = [[o for o in image if min(sides(o)) >= policy.min_size_px] for image in left]
        reached = slow_precision(slow_right(truths, left), policy.target_precision)
    raw = rows([detections(image) for image in images], Detections)
    found = pseudo_labels(raw, policy, CLASSES, holdout)
    expected = slow_boxes(images, policy, reached)
    for one, pairs in zip(unpack(found), expected, strict=True):
        require_same(one, pairs)
    assert found.column("image_id").equals(raw.column("image_id"))
    assert found.schema.equals(label_row(Detections), check_metadata=True)


@settings(max_examples=150, deadline=None)
@given(images_of_boxes, policies(of_boxes=True), st.randoms(use_true_random=False))
def test_order_and_split_decide_nothing_about_boxes(images, policy, random):
    require_no_order(rows([detections(image) for image in images], Detections), policy, random)


def require_no_order(raw, policy, random):
    """Rows in another order, in parts of any sizes, some empty: the same labels of each image."""
    kind = {"boxes_xyxy": Detections, "class_map_png": SegmentationMap}.get(
        raw.schema.names[5], ClassLabel
    )
    policy = replace(policy, target_precision=None)
    expected = pseudo_labels(raw, policy, CLASSES)
    order = list(range(raw.num_rows))
    random.shuffle(order)
    mixed = raw.take(pa.array(order, pa.int64()))
    cuts = sorted(random.randint(0, raw.num_rows) for _ in range(3))
    parts = [mixed.slice(a, b - a) for a, b in itertools.pairwise([0, *cuts, raw.num_rows])]
    choice = choose(lambda: iter(parts), kind, policy, CLASSES)
    found = pa.concat_tables(map(choice.accepted, parts)).combine_chunks()
    assert found.sort_by("image_id").equals(expected)


# -- segmentation ----------------------------------------------------------------------------------

CONFIDENCES = [0, 76, 77, 127, 128, 153, 178, 179, 254, 255]


@st.composite
def class_maps(draw):
    height, width = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    pixels = st.lists(
        st.tuples(st.integers(0, len(CLASSES) - 1), st.sampled_from(CONFIDENCES)),
        min_size=height * width,
        max_size=height * width,
    )
    cells = np.array(draw(pixels), np.uint8).reshape(-1, 2)
    if height == 0:
        return SegmentationMap.unknown()
    return SegmentationMap(
        class_map=cells[:, 0].reshape(height, width), confidence=cells[:, 1].reshape(height, width)
    )


maps = st.lists(class_maps(), max_size=5)


def pixels_of(one):
    if not one.class_map.size:
        return []
    return list(zip(one.class_map.ravel().tolist(), one.confidence.ravel().tolist(), strict=True))


@settings(max_examples=200, deadline=None)
@given(maps, policies(of_boxes=None), st.data())
def test_pixels_equal_the_reference(images, policy, data):
    reached, holdout = None, None
    if policy.target_precision is not None:
        seen, truths, scored = data.draw(maps), [], []
        for one in seen:
            values = st.sampled_from([*range(len(CLASSES)), IGNORE])
            count = one.class_map.size
            truth = data.draw(st.lists(values, min_size=count, max_size=count))
            truths.append(
                SegmentationMap(class_map=np.array(truth, np.uint8).reshape(one.class_map.shape))
            )
            pairs = zip(pixels_of(one), truth, strict=True)
            scored += [(k, c / 255, k == true) for (k, c), true in pairs if true != IGNORE]
        holdout = Holdout(
            truths=rows(truths, SegmentationMap), predictions=rows(seen, SegmentationMap)
        )
        reached = slow_precision(scored, policy.target_precision)
    found = pseudo_labels(rows(images, SegmentationMap), policy, CLASSES, holdout)
    scored = [(k, c / 255) for one in images for k, c in pixels_of(one)]
    thresholds = slow_thresholds(scored, policy, reached)
    for one, chosen in zip(images, unpack(found), strict=True):
        # Confidences rest rounded down: a pixel is kept if it is surely at its threshold.
        expected = [k if c >= thresholds[k] * 255 else IGNORE for k, c in pixels_of(one)]
        assert chosen.class_map.ravel().tolist() == expected
        assert chosen.class_map.shape == one.class_map.shape
        assert chosen.confidence is None


@settings(max_examples=60, deadline=None)
@given(maps, policies(of_boxes=None), st.randoms(use_true_random=False))
def test_order_and_split_decide_nothing_about_pixels(images, policy, random):
    require_no_order(rows(images, SegmentationMap), policy, random)


def test_every_confidence_is_its_own_threshold():
    whole = SegmentationMap(
        class_map=np.zeros((1, 256), np.uint8), confidence=np.arange(256, dtype=np.uint8)[None]
    )
    raw = rows([whole], SegmentationMap)
    for count in range(1, 257):
        kept = pseudo_labels(raw, PolicyConfig(balance_share=count / 256), CLASSES)
        assert (unpack(kept)[0].class_map == 0).sum() == count


# -- classification --------------------------------------------------------------------------------


@st.composite
def guesses(draw):
    scores = draw(st.lists(st.sampled_from(SCORES), max_size=3))
    count = len(scores)
    ids = draw(st.lists(st.integers(0, 2), unique=True, min_size=count, max_size=count))
    return ids, sorted(scores, reverse=True)


classes_of_images = st.lists(guesses(), max_size=12)


def top_of(one):
    return [(int(one.top_class_ids[0]), one.top_scores[0])] if len(one.top_scores) else []


@settings(max_examples=300, deadline=None)
@given(classes_of_images, policies(of_boxes=False), st.data())
def test_classes_equal_the_reference(drawn, policy, data):
    images = [ClassLabel.of(*one) for one in drawn]
    reached, holdout = None, None
    if policy.target_precision is not None:
        seen = [ClassLabel.of(*one) for one in data.draw(classes_of_images)]
        true = [data.draw(st.sampled_from([None, *range(len(CLASSES))])) for _ in seen]
        truths = [ClassLabel.of([] if k is None else [k]) for k in true]
        holdout = Holdout(truths=rows(truths, ClassLabel), predictions=rows(seen, ClassLabel))
        pairs = [(top, k) for one, k in zip(seen, true, strict=True) for top in top_of(one)]
        scored = [(c, score, c == k) for (c, score), k in pairs if k is not None]
        reached = slow_precision(scored, policy.target_precision)
    found = pseudo_labels(rows(images, ClassLabel), policy, CLASSES, holdout)
    thresholds = slow_thresholds([top for one in images for top in top_of(one)], policy, reached)
    for one, chosen in zip(images, unpack(found), strict=True):
        expected = [(c, score) for c, score in top_of(one) if at_least(score, thresholds[c])]
        assert top_of(chosen) == expected
        assert len(chosen.top_scores) == len(expected)


@settings(max_examples=100, deadline=None)
@given(classes_of_images, policies(of_boxes=False), st.randoms(use_true_random=False))
def test_order_and_split_decide_nothing_about_classes(drawn, policy, random):
    images = [ClassLabel.of(*one) for one in drawn]
    require_no_order(rows(images, ClassLabel), policy, random)


# -- ranking ---------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**30 - 1), st.integers(1, 3))),
    st.integers(1, 5),
)
def test_the_nth_best_key_equals_that_of_a_sorted_list(entries, nth):
    entries += entries[: len(entries) // 2]  # keys that tie
    class_ids, keys, counts = np.array(entries, np.int64).reshape(-1, 3).T
    tallies = [
        Tally(class_ids=class_ids[part], keys=keys[part], counts=counts[part])
        for part in (slice(0, 2), slice(2, None))
    ]
    found = nth_keys(lambda: iter(tallies), lambda held: np.minimum(held, nth), 5, 30)
    for k in range(5):
        mine = sorted((key for c, key, n in entries if c == k for _ in range(n)), reverse=True)
        assert found[k] == (mine[min(nth, len(mine)) - 1] if mine else -1)
