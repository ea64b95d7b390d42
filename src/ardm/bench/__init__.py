"""Classical codecs, side by side with ours."""
