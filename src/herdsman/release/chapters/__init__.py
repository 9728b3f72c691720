"""The chapters of the report: from each stage's summary to what the page shows of it."""
