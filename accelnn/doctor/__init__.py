"""What ``accelnn doctor`` does: look at what is installed and at the machine, and try every backend that is usable."""

from accelnn.doctor.report import examine, printer

__all__ = ["examine", "printer"]
