"""Raw logs as bytes and rows: in files, archives, pipes and other encodings; streamed, bounded, never unpacked."""
