"""A labelled pool under a policy: which of the stored predictions a student learns from.

In: the folder that `label` left, a `PolicyConfig`. Out: pseudo labels, in memory or in a folder of
their own that `train --pseudo` takes as well. Next: `exporting.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from ray_st.config import UserError, as_dict, convert, require
from ray_st.data import parquet, storage
from ray_st.data.labels import Labels
from ray_st.data.rows import kind_of, label_row
from ray_st.labeling.policy import Choice, Holdout, PolicyConfig, Summed, choose, human_fact
from ray_st.labeling.pool import raw_kind, raw_parts, raw_rows
from ray_st.labeling.stored import StoredRows
from ray_st.models.files import stands
from ray_st.models.saved import has_card, read_files, versions
from ray_st.selftraining.folder import finished, write_summary
from ray_st.selftraining.record import SUMMARY
from ray_st.training.loop import PREDICTIONS

LABELS = "labels.parquet"
_VAL = "val.parquet"
_MADE_BY = "the --out folder of `ray-st eval --model TEACHER`"


def open_labelled(uri: str) -> dict[str, Any]:
    """The summary of a folder or bucket that `label` or `policy` left."""
    summary = finished(uri)
    if summary is None or "teacher_sha256" not in summary:
        inside = storage.join(uri, "pseudo")  # of a whole run
        stands = storage.exists(storage.join(inside, SUMMARY))
        right = inside if stands else "the --out folder of `ray-st label`"
        raise UserError(f"pseudo: {uri} holds no finished labelling; pass {right}")
    return summary


def accepted(
    out: str,
    policy: PolicyConfig,
    kind: type[Labels],
    classes: Sequence[str],
    holdout: Holdout | None,
    held_images: int,
) -> tuple[pa.Table | StoredRows, Choice]:
    """Pseudo labels of what `label` left, and how they were chosen.

    They are held, in the order of image ids, where there are at most so many images.
    """
    choice = choose(partial(raw_parts, out), kind, policy, classes, holdout)
    stored = raw_rows(out, choice)
    if stored.num_rows > held_images:
        return stored, choice
    parts = [label_row(kind).empty_table(), *map(choice.accepted, raw_parts(out))]
    return pa.concat_tables(parts).combine_chunks().sort_by("image_id"), choice


def read_accepted(
    out: str, summary: Mapping[str, Any], policy: PolicyConfig, held_images: int
) -> pa.Table | StoredRows:
    """Pseudo labels that `ray-st policy` left; another policy than theirs is refused.

    Of more images than are held the labels are chosen again, by the thresholds that stand there.
    """
    require_chosen_by(policy, out, summary)
    with parquet.opened(storage.join(out, LABELS)) as labels:
        if labels.metadata.num_rows <= held_images:
            return read_chosen(out)
        kind = kind_of(labels.schema_arrow)
    assert kind is not None, "`policy` writes labels of some kind"
    open_labelled(summary["store"])  # which may have been removed
    by = convert(PolicyConfig, summary["policy"], path="policy")
    return raw_rows(summary["store"], Choice.recorded(summary["thresholds"], by, kind))


def require_chosen_by(policy: PolicyConfig, out: str, summary: Mapping[str, Any]) -> None:
    """Refuse a policy that is another than what `ray-st policy` left in `out` was chosen by."""
    stands = convert(PolicyConfig, summary["policy"], path="policy")  # perhaps without new fields
    if policy not in (PolicyConfig(), stands):
        raise UserError(
            f"pseudo: {out} holds what another policy chose; leave the section policy out, or pass "
            f"--pseudo {summary['store']} to choose again"
        )


def read_chosen(out: str) -> pa.Table:
    """The pseudo labels that stand in a folder, in the order of image ids."""
    return parquet.read(storage.join(out, LABELS)).sort_by("image_id")


def require_holdout_used(policy: PolicyConfig) -> None:
    """Refuse a hold-out where nothing is compared with people's labels and no threshold chosen."""
    rule = "left out without policy.target_precision: `label` and `policy` alone compare with it"
    is_used = policy.holdout is None or policy.target_precision is not None
    require(is_used, "policy.holdout", rule, policy.holdout)


def read_holdout(
    policy: PolicyConfig, kind: type[Labels], classes: Sequence[str], teacher_sha256: str
) -> Holdout | None:
    """Read `policy.holdout`: predictions of this teacher, truths, and how good the teacher is.

    None where there is no hold-out; a policy that needs one is then refused.
    """
    if policy.holdout is None:
        if policy.target_precision is None:
            return None
        raise UserError(
            "policy.holdout: is missing, and policy.target_precision needs it; pass "
            f"--policy.holdout with {_MADE_BY}"
        )
    folder, field = policy.holdout, "policy.holdout"
    # A teacher's folder inside that of a whole run has its images one floor up.
    vals = [storage.join(each, _VAL) for each in (folder, storage.join(folder, ".."))]
    val = next((each for each in vals if stands(each, field)), None)
    predicted = storage.join(folder, PREDICTIONS)
    if val is None or not stands(predicted, field) or (found := finished(folder)) is None:
        raise UserError(
            f"policy.holdout: {folder} holds no finished predictions; pass {_MADE_BY} on labelled "
            "images"
        )
    if list(found.get("classes", ())) != list(classes):
        raise UserError(
            f"policy.holdout: {folder} has classes {found.get('classes')}, the pool "
            f"{list(classes)}; pass {_MADE_BY}"
        )
    if _model_of(folder, found) != teacher_sha256:
        raise UserError(
            f"policy.holdout: {folder} holds predictions of another model than the teacher of the "
            f"pool; pass {_MADE_BY}"
        )
    truths, predictions = parquet.read(val), parquet.read(predicted)
    if {kind_of(truths.schema), kind_of(predictions.schema)} != {kind}:
        raise UserError(
            f"policy.holdout: {folder} is of another task than the pool; pass {_MADE_BY}"
        )
    return Holdout(truths=truths, predictions=predictions, figures=_figures(found))


def _figures(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """The two figures that a person looks at first, of the one model that `summary` is of."""
    role = next((each for each in ("model", "teacher", "student") if each in summary), "model")
    measured: Mapping[str, float | None] = summary.get(role) or {}
    return {name: measured.get(name) for name in summary.get("figures", ())[:2]}


def _model_of(folder: str, summary: Mapping[str, Any]) -> str | None:
    """Whose predictions these are: `eval` says so, and a model's own folder holds it."""
    if "model_sha256" in summary:
        return str(summary["model_sha256"])
    what = "policy.holdout"
    return read_files(folder, what).digest if has_card(folder, what) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledPool:
    """A labelled pool that can be chosen from, and what choosing needs."""

    folder: str  # path or URI
    kind: type[Labels]
    summary: Mapping[str, Any]  # of `label`
    holdout: Holdout | None


def open_store(uri: str, policy: PolicyConfig) -> LabelledPool:
    """Open the folder that `label` left; refuses a policy that cannot be applied to it."""
    summary = open_labelled(uri)
    if summary["verb"] != "label":
        raise UserError(f"pseudo: {uri} holds what a policy chose already; pass {summary['store']}")
    kind, classes = raw_kind(uri), summary["classes"]
    if kind is None:
        raise UserError(f"pseudo: {uri} holds no labelled image; see its failures.parquet")
    policy.require_known(kind, classes)
    holdout = read_holdout(policy, kind, classes, summary["teacher_sha256"])
    return LabelledPool(folder=uri, kind=kind, summary=summary, holdout=holdout)


def write_chosen(
    store: str,
    out: str,
    policy: PolicyConfig,
    kind: type[Labels],
    classes: Sequence[str],
    holdout: Holdout | None,
) -> tuple[dict[str, Any], Choice]:
    """Write the pseudo labels of a whole store into `out`; returns their facts, and the choice.

    People's own labels on the hold-out stand beside them.

    A few thousand images are in memory at once, whatever the size of the pool.
    """
    parts = partial(raw_parts, store)
    choice = choose(parts, kind, policy, classes, holdout)
    summed = Summed(choice=choice)
    chosen = map(summed.accept, parts())
    parquet.write_parts(storage.join(out, LABELS), label_row(kind), chosen)
    people = {} if holdout is None else human_fact(holdout.truths, kind, classes)
    return {**summed.facts(), **people}, choice


def policy_stage(store: LabelledPool, policy: PolicyConfig, out: str) -> dict[str, Any]:
    """Write the pseudo labels of a whole store and what is to know of them; returns the summary."""
    begun = time.monotonic()
    classes = store.summary["classes"]
    facts, choice = write_chosen(store.folder, out, policy, store.kind, classes, store.holdout)
    summary = {
        "verb": "policy",
        "pseudo": {**facts, "failures": store.summary["pseudo"]["failures"]},
        **choice.account(),
        "policy": as_dict(policy),
        **{name: store.summary[name] for name in ("score_floor",) if name in store.summary},
        "store": store.folder,
        "classes": list(choice.classes),
        "teacher_sha256": store.summary["teacher_sha256"],
        "seconds": {"policy": time.monotonic() - begun},
        "versions": versions(),
    }
    write_summary(out, summary)
    return summary
