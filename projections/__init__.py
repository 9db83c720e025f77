"""What readers see: documents computed from events, kept in stores that may be thrown away."""
