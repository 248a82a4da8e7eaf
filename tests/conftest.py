"""Settings of the whole suite."""

from hypothesis import settings

# Time belongs in benchmarks: a slow machine is no failing test.
settings.register_profile("kneerisk", deadline=None)
settings.load_profile("kneerisk")
