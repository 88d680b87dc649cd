"""What is done: one file per step, in the flow's order; each ends with its arrows.

A handler is a plain function ``(event, claim, ports) -> Outcome``.
"""
