"""What Pykka does not bring: actors on the asyncio loop, by name, fed from the log."""
