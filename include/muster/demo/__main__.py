"""``python -m muster.demo``."""

import sys

from muster.demo.main import main

sys.exit(main())
