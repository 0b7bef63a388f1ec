"""The demo world: real handwritten digits pasted on textured grounds, with an exact truth.

In: `DigitsConfig`, and scikit-learn's 1797 digits of 8x8 pixels. Out: a folder that is a data set
with labels of one kind: `train` (few labels), `val`, and `pool`, whose truth only measures pseudo
labels. No digit stands in two of them. The same seed writes the same bytes, and the scenes with
boxes are those with class maps. Start at `config.py`; scikit-learn is loaded by `handwriting.py`
when digits are dealt, not before.
"""

from ray_st.data.sources.digits.config import DigitsConfig
from ray_st.data.sources.digits.worlds import check_world, classes_of, world_data, write_world

__all__ = ["DigitsConfig", "check_world", "classes_of", "world_data", "write_world"]
