"""The paper's tables and figures, measured again, and the baselines it compares with.

Nothing outside this package and the command line may depend on it.
"""
