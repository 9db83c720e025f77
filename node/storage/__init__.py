"""Where bytes are kept: the blob port, the local adapter, consumers' checkpoints."""
