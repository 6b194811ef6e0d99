"""What a mixer orders apart from its main run. ``children``: an order as a training run. ``prices``: what it will cost.

How it is made stands in :mod:`harness.making`, above the loop that makes it; where it is kept, in :mod:`harness.kept`.
"""
