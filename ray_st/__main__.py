"""`python -m ray_st VERB` is `ray-st VERB`."""

import sys

from ray_st.cli import main

sys.exit(main())
