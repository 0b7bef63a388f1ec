"""The report: what a run left in its folder, as one HTML page that needs nothing else.

In: a run folder. Out: `report.html` in it. Read `palette.py`, `run_files.py`, `figures.py`,
`wording.py`, `tables.py`, `pseudo.py`, `canvas.py`, `plots.py`, `gallery.py` and last
`page.py`, which calls them all. No Ray, no torch.
"""

from ray_st.report.page import write_report

__all__ = ["write_report"]
