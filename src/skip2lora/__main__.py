"""``python -m skip2lora`` is the command ``skip2lora``."""

from skip2lora.cli import main

main()
