"""The report of an iteration: what it is made of (``data``) and how it is drawn (``render``)."""
