"""vouch beside the servers that one would otherwise take, on one machine, with one model and one load.

asks, trace    what is asked for, and when
bare, alone    what the model can do without any server
peers/         the servers: one pipeline, drawn by `peers/drawing.py`, behind each of them
contenders     how each is started, stopped and called
replay         sends a trace and notes what became of it
runs, scores   one run, and the numbers that it comes down to
session        what is run in which order; `log` keeps it
figures        the report
"""
