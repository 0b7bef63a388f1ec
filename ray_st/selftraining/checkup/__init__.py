"""What would make a run fail or disappoint, found before it: plain functions without Ray.

In: opened data, the sections of a recipe, what a cluster has. Out: `Finding`s, one line each.
Read `finding.py`, then what is known of the data: `files.py`, `copies.py`, `twice.py`,
`classes.py`, `sizes.py`, `objects.py`, `pixels.py`, `pseudo.py`, and `sets.py`, which calls them;
then what training makes of them: `first_views.py`, `start_loss.py`, `memory.py`, `trial_step.py`,
`verdict.py`; and last what stands in the recipe: `settings.py`, `fit.py`. Next:
`../pseudo_look.py`.
"""
