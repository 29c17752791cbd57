"""
What looks like ransomware: a pure judge of how a snapshot differs from the points before it.

Ransomware that reaches a dataset is backed up faithfully. What gives it away is the change itself: files that
were text or Parquet yesterday are noise today, most of them at once, or they are gone.
"""
