"""`python -m marserve_archiver` is the command `archiver`."""

import sys

from marserve_archiver.cli import main

sys.exit(main())
