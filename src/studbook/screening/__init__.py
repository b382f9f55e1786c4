"""What is known of the origin of a corpus's records: witnesses by strength, contamination with an interval, a queue for review."""
