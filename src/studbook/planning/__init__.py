"""Planning: how much real data keeps diversity, and how long a measured pipeline has left."""

from studbook.planning.dosage import Dose, DoseMetric, dose, share_kept

__all__ = ["Dose", "DoseMetric", "dose", "share_kept"]
