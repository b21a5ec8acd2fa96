"""Runs the components of FATE (the package pyfate) as tasks of any BFIA scheduler.

A scheduler starts one container, or one process, for each task and party:

    python -m hutong_fate

The program reads its task from the environment (task), fetches the inputs from the storage (storage), and runs
FATE in a second process (worker), which turns CSV into FATE's dataframes and back (tables). It answers status
queries with the latest metric (control, metrics), stores the outputs and reports the result (report).

FATE is imported in the second process only. So the first one stops at once when it is told to, and reports a
FATE that was killed.
"""
