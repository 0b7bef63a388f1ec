"""From raw predictions to pseudo labels: a view over the store that costs no accelerator.

In: LABEL_ROWs with every prediction above the floor. Out: LABEL_ROWs with those worth learning
from. Start at `config.py`; `choice.py` puts the rules together. Next: `../stored.py`.
"""

from ray_st.labeling.policy.choice import Choice, choose, pseudo_labels
from ray_st.labeling.policy.config import PolicyConfig
from ray_st.labeling.policy.facts import Summed, human_fact
from ray_st.labeling.policy.holdout import Holdout

__all__ = [
    "Choice",
    "Holdout",
    "PolicyConfig",
    "Summed",
    "choose",
    "human_fact",
    "pseudo_labels",
]
