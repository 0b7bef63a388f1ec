"""The verbs: what can be asked for on a command line or by a job.

In: a verb's config. Out: a folder with a summary.json. Each file holds one verb: its config, which
is its command line, and `run`. This file: which verbs there are. Next: `verb.py`.
"""

from __future__ import annotations

VERBS = {
    "demo": "The whole loop on scenes of handwritten digits; nothing is downloaded.",
    "run": "The whole loop on your own images: teacher, labels, student, comparison, sweep.",
    "doctor": "Say what would make a run fail or disappoint, before it starts.",
    "plan": "Foretell how long labelling and training take, on what, and what it costs.",
    "augment": "Draw what training sees of your images: a sheet of views, policy by policy.",
    "pretrain": "Learn a backbone to start from, from images alone or from classes.",
    "train": "Train a model on human labels; with --pseudo on human and pseudo labels jointly.",
    "index": "List a pool of any size once, so that work on it starts at once.",
    "label": "Let a teacher label a pool of images.",
    "verify": "Prove from the files alone that every image is labelled or recorded, once.",
    "policy": "Choose again which of a labelled pool's predictions are pseudo labels.",
    "export": "Write pseudo labels as COCO, YOLO or PASCAL VOC, for other tools.",
    "export-model": "Write a model as one file that other programs run: ONNX, or torch.export.",
    "eval": "Measure a model on labelled images.",
    "sweep": "Train the student for several alphas, side by side.",
    "status": "Say how far a run is, from its folder alone: live or dead, here or in a bucket.",
    "report": "Write report.html for a folder that another verb left.",
    "submit": "Send a verb to a Ray cluster as a job, and follow it to its end.",
    "models": "Size up the paper's models, beside the printed figures.",
}
