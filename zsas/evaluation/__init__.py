"""Measuring: metrics, runs over data sets, reports."""
