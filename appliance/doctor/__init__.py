"""``appliance doctor``: what a machine or a cluster lacks for this program, and the command that mends it.

``machine`` and ``cluster`` look and touch nothing; what they see is judged by pure functions that return findings
(``findings``). A finding without trouble says what was found, so that the report also shows what was looked at.
"""
