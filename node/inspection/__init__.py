"""Looking into the log: its records, past states, and the story of a message. Reads only."""
