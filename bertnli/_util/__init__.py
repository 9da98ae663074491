"""Files, messages, temporary folders and the machine, for every part of the package."""
