"""Planning: how much real data keeps diversity, and how long a measured pipeline has left."""

from studbook.planning.dosage import Dose, DoseMetric, dose, share_kept
from studbook.planning.forecasting import Estimate, Forecast, Point, Remaining, SeriesForecast, forecast
from studbook.planning.probabilities import read_probabilities

__all__ = [
    "Dose",
    "DoseMetric",
    "Estimate",
    "Forecast",
    "Point",
    "Remaining",
    "SeriesForecast",
    "dose",
    "forecast",
    "read_probabilities",
    "share_kept",
]
