"""What each command does, as one call: a command reads its options, calls, and prints."""
