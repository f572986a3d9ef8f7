"""``python -m accelnn``."""

from accelnn.cli import main

main()
