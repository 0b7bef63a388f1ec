"""The report: what a run left in its folder, as one HTML page that needs nothing else.

In: a run folder. Out: `report.html` in it. Read `palette.py`, `run_files.py`, `figures.py`,
`wording.py`, `tables.py`, `pseudo.py`, `canvas.py`, `plots.py`, `histogram.py`,
`class_colours.py`, `drawing`, `gallery.py` and last `page.py`, which calls them all. No Ray, no
torch, and no word of which task a run had: `figures` of the summary and the kind of the labels say
it.

Apart from it, contact sheets of training views: `lettering.py`, `sampling.py`, `sheet.py`,
`augmented.py` and last `checked.py`.
"""

from ray_st.report.page import write_report

__all__ = ["write_report"]
