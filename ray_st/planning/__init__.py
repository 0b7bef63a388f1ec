"""How long a recipe takes, on what, and what it costs, before it is run.

`rates` holds what an image costs at each stage, `turns`, `calibration` and `practice` measure it
here, `earlier` reads it from runs; `fleet` says which nodes there are; `simulation`, `labelling`
and `training` carry the one to the other; `plan` is all of it on disk, and `comparison`
beside what came of it.
"""
