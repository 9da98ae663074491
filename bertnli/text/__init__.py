"""From strings to token ids."""
