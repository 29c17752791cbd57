"""
The verbs. Each takes values and ports and returns a value; a DAG task and the command line call the same ones.

A snapshot is pin → capture (each component) → validate, golden → seal.
A restore is plan → restore (each component) → validate → smoke → conclude.
A drill is a restore into a sandbox of its own.
"""
