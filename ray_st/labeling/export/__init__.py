"""Pseudo labels in the formats of other tools: COCO, YOLO, PASCAL VOC. No Ray, no torch.

In: LABEL_ROWs, a part at a time, and a folder. Out: files in it. docs/export.md says what they hold
and why. Start at `names.py`; `formats.py` says which format takes which labels.
"""
