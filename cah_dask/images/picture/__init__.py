"""Bytes -> picture, in processes of their own and without the network.  decode -> decoders."""
