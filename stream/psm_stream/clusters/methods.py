"""The table of clustering methods. Importing it imports neither hdbscan nor scikit-learn nor scipy."""

from __future__ import annotations

from collections.abc import Mapping

from psm_stream.clusters.dbscan_method import DbscanMethod
from psm_stream.clusters.fit import Assigner, Fit, Method
from psm_stream.clusters.hdbscan_method import HdbscanMethod
from psm_stream.clusters.vocabulary_method import VocabularyMethod

__all__ = ["METHODS", "Assigner", "Fit", "Method"]

METHODS: Mapping[str, Method] = {
    method.name: method for method in (HdbscanMethod(), DbscanMethod(), VocabularyMethod())
}
"""Each method by the name that `clusters.method` gives it."""
