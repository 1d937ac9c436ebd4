"""The paper's tables and figures, re-measured."""
