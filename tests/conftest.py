from hypothesis import settings

# A busy machine makes single examples slow; the suite's own time limit still ends a hang.
settings.register_profile("nexus", deadline=None)
settings.load_profile("nexus")
