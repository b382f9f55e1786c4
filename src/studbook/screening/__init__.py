"""What is known of the origin of a corpus's records: witnesses by strength, contamination with an interval, a queue for review."""

from studbook.screening.judging import Judgement, Screen
from studbook.screening.protocols import Detector, Record, Witness
from studbook.screening.reading import Limits
from studbook.screening.run import screen_corpus

__all__ = ["Detector", "Judgement", "Limits", "Record", "Screen", "Witness", "screen_corpus"]
