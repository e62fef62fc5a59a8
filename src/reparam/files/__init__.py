"""Files: written in one step, and read as what a stranger may have made."""

