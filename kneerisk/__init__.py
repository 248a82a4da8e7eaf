"""Score cohorts of knee radiographs for the risk that knee osteoarthritis progresses within 12 months.

Research software, no medical device.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("kneerisk")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"
