"""Properties are judged by their outcome: on a loaded machine neither a slow example nor a slow draw is a failure.

Hypothesis traces every line of every example to explain a failure, which takes many times as long as the example.
"""

from hypothesis import HealthCheck, Phase, settings

phases = [phase for phase in Phase if phase is not Phase.explain]
settings.register_profile("by-outcome", deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=phases)
settings.load_profile("by-outcome")
