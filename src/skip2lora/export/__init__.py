"""An adapted model as a file that a stock runtime serves.

Here graphs and adapters are joined; nothing is trained, and no sample is read.
"""
