"""The functions behind the commands: a command makes one call and prints the result."""
