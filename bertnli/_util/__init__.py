"""What every room needs: files, messages, temporary folders, the machine."""
