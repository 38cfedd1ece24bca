"""Analyses of clusters: the published sweep, and the clusters of one model that another has nothing like."""
