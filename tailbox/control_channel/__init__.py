"""The control channel (TS2021), both ends: Noise, records, HTTP/2."""
