"""A model of ours as one file that other programs run without ray_st.

In: a model folder. Out: a folder with `model.onnx` or `model.pt2`, and `export.json`, which says
what goes in and what comes out. Read `choosing.py`, `replay.py`, `agreement.py`, `heads.py`,
`files.py`, `pictures.py`, `card.py` and last `stage.py`, which calls them all.
"""
