"""Federation: signed messages between Mailio nodes (MTP, wire spec section 3)."""
