"""The front door: the composition of the whole flow, and the command line."""
