"""The JSON forms of the control protocol."""
