"""Measurements: `python -m benchmarks step|memory|train|decode`, ours beside PyTorch, as people write it and at
its best, in one run, and `python -m benchmarks gradcheck`, our checker beside others.

Every comparison first checks that the contestants compute the same thing, then warms up, then lets
them take turns, and reports medians and their ratio.  Threads are fixed and printed.
"""
