"""Planning: how much real data keeps diversity, and how long a measured pipeline has left."""

from studbook.planning.dosage import Dose, DoseMetric, dose, share_kept
from studbook.planning.forecasting import Estimate, Forecast, Point, Remaining, SeriesForecast, forecast
from studbook.planning.probabilities import read_probabilities
from studbook.planning.screened import Outlook, ScreenedDose, ScreenRates, read_screen, screened_dose

__all__ = [
    "Dose",
    "DoseMetric",
    "Estimate",
    "Forecast",
    "Outlook",
    "Point",
    "ScreenRates",
    "ScreenedDose",
    "Remaining",
    "SeriesForecast",
    "dose",
    "forecast",
    "read_probabilities",
    "read_screen",
    "screened_dose",
    "share_kept",
]
