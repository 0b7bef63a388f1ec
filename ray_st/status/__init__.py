"""How far a run is, from its folder alone: live or dead, here or in a bucket.

Nothing is written and no cluster is touched; shards are counted, not their rows, so that a pool of
300 million images takes seconds. Next: `state.py`.
"""
