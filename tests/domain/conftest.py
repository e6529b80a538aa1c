"""Properties are judged by their outcome: on a loaded machine neither a slow example nor a slow draw is a failure."""

from hypothesis import HealthCheck, settings

settings.register_profile("by-outcome", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("by-outcome")
