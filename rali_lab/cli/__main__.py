"""`python -m rali_lab.cli` is the command `rali-lab`."""

import sys

from rali_lab.cli import main

sys.exit(main())
