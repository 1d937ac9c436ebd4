"""What outputs mean: one class, several labels or numbers; how labels, names and columns match.

Python, the command line and the estimators ask here alike. No file is read here and no model
is run.
"""

from skip2lora.tasks.task import CLASSIFICATION, PLAIN, TASKS, Goal, Task

__all__ = ["CLASSIFICATION", "PLAIN", "TASKS", "Goal", "Task"]
